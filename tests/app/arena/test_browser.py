"""The arena page in a real Chromium, on scripted engines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import expect
from scripted_engine import ScriptedEngine

from model.interface import EngineError, EngineStats

pytestmark = pytest.mark.browser

OpenTab: TypeAlias = Callable[..., Any]

LONG_ANSWER = " ".join(f"word{number}" for number in range(400))
NAMES = ("alpha-7b", "beta-7b")

RECORD_WHAT_THE_SERVER_SAYS = """() => {
    window.told = "";
    const ask = window.fetch;
    const record = async (reader) => {
        const decoder = new TextDecoder();
        for (let part = await reader.read(); !part.done; part = await reader.read())
            window.told += decoder.decode(part.value, {stream: true});
    };
    window.fetch = async (...request) => {
        const response = await ask(...request);
        record(response.clone().body.getReader()).catch(() => null);  // Gradio ends its streams by aborting them
        return response;
    };
}"""


def is_idle(stats: EngineStats) -> bool:
    return stats.num_running == 0 and stats.num_waiting == 0


def two(answer: Callable[[str], str] = lambda prompt: LONG_ANSWER, **options: Any) -> list[ScriptedEngine]:
    return [ScriptedEngine(answer, model_name=name, **options) for name in NAMES]


class Arena:
    """The page as somebody uses it."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.page = tab.page
        self.box = self.page.get_by_label("Your prompt")
        self.box.wait_for()

    def ask(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def answers(self, side: str) -> Any:
        return self.page.locator(f"#arena-{side.lower()} .bot .message:not(.thought) .prose")

    def facts(self, side: str) -> Any:
        return self.page.locator(f"#arena-{side.lower()} .bot .message.thought .prose")

    def wait_until_votable(self) -> None:
        expect(self.tab.button("A is better")).to_be_enabled(timeout=15_000)

    @property
    def status(self) -> Any:
        return self.page.locator("#arena-status")


def test_a_blind_round_from_prompt_to_ranking_export_and_replay(open_tab: OpenTab, tmp_path: Any) -> None:
    engines = two(lambda prompt: f" =1+{len(prompt)} {'x' * 40}", tokens_per_s=400)
    tab = open_tab(engines, path="/arena")
    arena = Arena(tab)
    arena.page.evaluate(RECORD_WHAT_THE_SERVER_SAYS)
    arena.tab.unfold("Prefix, limit, seed and stop strings", "Max tokens")
    arena.page.get_by_label("Prefix (“system”) text").fill("Be brief.")
    arena.ask("=one")
    arena.wait_until_votable()
    arena.ask("two")
    arena.answers("B").nth(1).filter(has_text="=1+").wait_for()
    arena.wait_until_votable()

    # Nothing that came since says who is who: no name, no seed, no hash, no speed.
    sides = arena.page.locator("#arena-sides").inner_html()
    told = arena.page.evaluate("window.told")
    assert told.count("=1+") >= 4, "the answers are in what was recorded"
    for secret in (*NAMES, "weights", "0" * 64, "tokens/s", "first token"):
        assert secret not in sides + told
    assert arena.facts("A").first.inner_text().lstrip("\u2063") == "Complete"

    tab.button("B is better").focus()
    arena.page.keyboard.press("Enter")
    arena.status.filter(has_text="Your vote is kept: “B is better”").wait_for()
    winner = arena.page.locator(".arena-heading h2").nth(1).inner_text().split()[1]
    assert winner in NAMES
    assert "seed" in arena.facts("A").first.inner_text()
    rows = arena.page.locator("#arena-ranking tbody tr")
    assert rows.first.inner_text().startswith(f"1–2\t{winner} · Balanced")
    prompts = [prompt for prompt, _ in engines[0].requests]
    assert prompts[0] == "Be brief.\n\nhuman: =one\n\nadept:"
    assert prompts[1].endswith("\n\nhuman: two\n\nadept:")

    arena.page.get_by_role("button", name="Your votes").click()
    arena.page.locator("#arena-own-votes").get_by_text("hidden").wait_for()
    tab.button("Replay").click()
    arena.page.get_by_text("4 of 4 answers written again").wait_for()
    assert arena.page.locator("#arena-own-votes").get_by_text("identical, token for token").count() == 4
    assert sorted(prompt for prompt, _ in engines[0].requests[2:]) == sorted(prompts)

    tab.button("Export all your votes").click()
    files = {}
    for name in ("arena-votes.csv", "arena-votes.jsonl"):
        with arena.page.expect_download() as download:
            arena.page.get_by_role("link", name=name).click()
        download.value.save_as(tmp_path / name)
        files[name] = (tmp_path / name).read_bytes().decode()
    table = list(csv.DictReader(files["arena-votes.csv"].splitlines()))
    assert [(row["prompt"], row["verdict"], row["model_b"]) for row in table] == [
        ("'=one", "B", winner),
        ("two", "B", winner),
    ]
    record = json.loads(files["arena-votes.jsonl"])
    assert record["questions"] == ["=one", "two"]
    assert record["is_blind"] is True

    # The vote is there after a reload, and another browser sees its result but not the vote.
    arena.page.reload()
    rows.first.filter(has_text=winner).wait_for()
    other = Arena(open_tab(engines, path="/arena"))
    other.page.locator("#arena-ranking tbody tr").first.filter(has_text=winner).wait_for()
    other.page.get_by_role("button", name="Your votes").click()
    other.page.get_by_text("You have not voted yet.").wait_for()


def test_two_settings_of_one_model_by_name(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(lambda prompt: " yes", model_name="alone", notice="A demonstration.")
    arena = Arena(open_tab(engine, path="/arena"))
    arena.page.get_by_label("Shown").check()
    arena.ask("one")
    arena.wait_until_votable()
    assert [heading.split() for heading in arena.page.locator(".arena-heading h2").all_inner_texts()] == [
        ["A", "alone", "·", "Greedy"],
        ["B", "alone", "·", "Creative"],
    ]
    assert [(params.temperature, params.min_p) for _, params in engine.requests] == [(0.0, 0.0), (1.0, 0.05)]
    expect(arena.page.get_by_label("Second setting")).to_be_disabled()
    arena.tab.button("Tie").click()
    arena.status.filter(has_text="Your vote is kept").wait_for()
    arena.page.get_by_label("Second setting").click()
    arena.page.get_by_role("option", name="Greedy").click()
    arena.ask("two")
    arena.tab.problem.filter(has_text="both sides are the same model with the same setting").wait_for()
    assert arena.box.input_value() == "two"


def test_stop_ends_both_at_once_and_a_failure_is_not_voted_on(open_tab: OpenTab) -> None:
    engines = two(
        failure=lambda prompt: EngineError("out <i>of</i> luck") if "bad" in prompt else None, tokens_per_s=30
    )
    arena = Arena(open_tab(engines, path="/arena"))
    arena.ask("one")
    for side in "AB":
        arena.answers(side).filter(has_text="word1").wait_for()
    assert [engine.stats().num_running for engine in engines] == [1, 1]
    arena.tab.button("Stop both").click()
    assert [engine.wait_for(is_idle, timeout=1) < 1 for engine in engines] == [True, True]
    arena.wait_until_votable()
    assert arena.facts("B").inner_text().lstrip("\u2063") == "Stopped"
    arena.tab.button("New round").click()
    arena.answers("A").wait_for(state="detached")
    expect(arena.tab.button("A is better")).to_be_disabled()
    arena.ask("bad")
    arena.status.filter(has_text="no vote").wait_for()
    assert "Failed: out <i>of</i> luck" in arena.facts("A").inner_text()
    expect(arena.tab.button("A is better")).to_be_disabled()


@pytest.mark.parametrize("places", [2, 1], ids=["writing", "queued"])
def test_closing_the_tab_frees_both_slots(open_tab: OpenTab, places: int) -> None:
    engine = ScriptedEngine(lambda prompt: LONG_ANSWER, tokens_per_s=50, max_num_requests=places)
    arena = Arena(open_tab(engine, path="/arena"))
    arena.ask("one")
    engine.wait_for(lambda stats: stats.num_running == places and stats.num_waiting == 2 - places)
    if places == 1:
        arena.facts("B").filter(has_text="Waiting for a free place").wait_for()
    else:
        arena.facts("B").wait_for()
    arena.page.close()
    assert engine.wait_for(is_idle, timeout=2) < 1
    assert engine.stats().num_aborted == 2


def test_hostile_answers_do_nothing_on_either_side(open_tab: OpenTab, listener: tuple[str, list[str]]) -> None:
    address, asked_for = listener
    attacks = (
        f"<img src='{address}/img' onerror='window.ran = 1'> ![picture]({address}/markdown-img)",
        f"<script src='{address}/script'></script><svg onload='window.ran = 2'><image href='{address}/svg'/></svg>",
        f"<form action='{address}/form'><button id='bait'>OK</button></form><iframe src='{address}/frame'></iframe>",
        f"<style>@import '{address}/css'; body {{ display: none }}</style><base href='{address}'>",
        "[click](javascript:window.ran=3) [data](data:text/html,<script>window.ran=4</script>)",
        f"$$\\includegraphics{{{address}/latex}} \\href{{javascript:window.ran=5}}{{x}}$$",
        "\x00\x07\x1b[31m\u202e\u2066 control \ufeff\x7f",
        "wide" * 5_000,
    )
    engines = two(lambda prompt: "\n\n".join(attacks), context_length=30_000)
    arena = Arena(open_tab(engines, path="/arena", viewport={"width": 390, "height": 844}))
    arena.tab.unfold("Prefix, limit, seed and stop strings", "Max tokens")
    arena.page.get_by_label("Max tokens").fill("")
    arena.ask("Show me")
    arena.wait_until_votable()
    arena.tab.button("Both bad").click()
    arena.status.filter(has_text="Your vote is kept").wait_for()
    arena.page.get_by_text("1 vote “both bad” rank nobody").wait_for()
    arena.page.wait_for_timeout(300)
    assert arena.page.evaluate("window.ran") is None
    assert asked_for == []
    assert arena.page.locator("#bait, .arena-side form, .arena-side iframe, .arena-side script").count() == 0
    for link in arena.page.locator(".arena-side a").all():
        assert not (link.get_attribute("href") or "").startswith(("javascript:", "data:"))
    assert arena.page.evaluate("document.documentElement.scrollWidth") <= 390
    # Images of other hosts are refused by the browser, which says so.
    assert [error for error in arena.tab.errors if "Content Security Policy" not in error] == []
    arena.tab.errors.clear()
    arena.tab.outside.clear()

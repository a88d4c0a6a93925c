"""The chat page in a real Chromium, on the scripted engine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import expect
from scripted_engine import ScriptedEngine

from model.interface import EngineError, EngineStats

pytestmark = pytest.mark.browser

OpenTab: TypeAlias = Callable[..., Any]

LONG_ANSWER = " ".join(f"word{number}" for number in range(400))


def is_idle(stats: EngineStats) -> bool:
    return stats.num_running == 0 and stats.num_waiting == 0


def numbered() -> Callable[[str], str]:
    """Answers `answer 1`, `answer 2`, …"""
    numbers = itertools.count(1)
    return lambda prompt: f" answer {next(numbers)}"


def test_a_question_streams_is_stopped_and_tried_again(open_tab: OpenTab) -> None:
    numbers = itertools.count(1)
    # Slow enough for a busy machine: at this rate the page's 256 tokens last over 8 seconds.
    engine = ScriptedEngine(lambda prompt: f" try {next(numbers)}: {LONG_ANSWER}", tokens_per_s=30)
    tab = open_tab(engine)
    tab.ask("Hello?")
    tab.answers.filter(has_text="word1").wait_for()
    states: list[str] = []
    while len(states) < 3:
        states.append(tab.answers.inner_text())
        time.sleep(0.2)
    assert all(later.startswith(earlier) and later != earlier for earlier, later in itertools.pairwise(states))
    assert "Writing" in tab.facts.inner_text()
    assert engine.stats().num_running == 1

    tab.button("Stop").click()
    assert engine.wait_for(is_idle, timeout=1) < 1
    tab.wait_until_done()
    assert engine.stats().num_aborted == 1
    assert tab.facts.inner_text().lstrip("\u2063").startswith("Stopped · first token after")
    stopped = tab.answers.inner_text()
    assert stopped.startswith(states[-1])

    tab.button("Retry").click()
    tab.answers.filter(has_text="try 2: word0 word1").wait_for()
    assert tab.questions.all_inner_texts() == ["Hello?"]
    assert [prompt for prompt, _ in engine.requests] == ["human: Hello?\n\nadept:"] * 2
    tab.button("Stop").click()
    tab.wait_until_done()


def test_undo_edit_prefix_and_settings_reach_the_prompt(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(numbered())
    tab = open_tab(engine)
    tab.page.get_by_label("Prefix (“system”) text").fill("Be brief.")
    tab.page.get_by_label("Seed", exact=True).fill("77")
    tab.page.get_by_label("Stop strings").fill("END\n\\n\\n")
    tab.button("Creative").click()
    expect(tab.page.locator("#setting-min-p input[type=number]")).to_have_value("0.05")
    tab.ask("one")
    tab.wait_until_done(1)
    tab.ask("two")
    tab.wait_until_done(2)
    prompt, params = engine.requests[1]
    assert prompt == "Be brief.\n\nhuman: one\n\nadept: answer 1\n\nhuman: two\n\nadept:"
    assert (params.seed, params.stop) == (77, ("\n\nhuman:", "END", "\n\n"))
    assert (params.temperature, params.min_p) == (1.0, 0.05)
    assert "seed 77" in tab.facts.nth(1).inner_text()

    tab.button("Undo").click()
    tab.questions.nth(1).wait_for(state="detached")
    assert tab.box.input_value() == "two"
    tab.box.press("Enter")
    tab.wait_until_done(2)
    assert engine.requests[2][0] == prompt

    tab.button("Edit").first.click()
    tab.page.locator(".edit-textarea").fill("uno <b>")
    tab.button("Submit").click()
    tab.answers.filter(has_text="answer 4").wait_for()
    tab.wait_until_done(1)
    assert engine.requests[3][0] == "Be brief.\n\nhuman: uno <b>\n\nadept:"
    assert tab.questions.all_inner_texts() == ["uno <b>"]
    assert tab.answers.all_inner_texts() == ["answer 4"]


def test_an_invalid_value_or_a_long_prompt_loses_nothing(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(context_length=200)
    tab = open_tab(engine)
    tab.ask("first")
    tab.wait_until_done()
    tab.page.get_by_label("Max tokens").fill("0")
    tab.ask("second")
    tab.problem.wait_for()
    assert tab.problem.inner_text().startswith("max_tokens=0 is not allowed: max_tokens must be")
    assert tab.box.input_value() == "second"
    tab.page.get_by_label("Max tokens").fill("20")
    tab.ask("long " * 100)
    tab.problem.filter(has_text="tokens but the context length allows at most 199").wait_for()
    assert tab.box.input_value() == "long " * 100
    assert tab.questions.all_inner_texts() == ["first"]
    tab.ask("third")
    tab.wait_until_done(2)
    assert tab.problem.count() == 0
    assert tab.facts.nth(1).inner_text().lstrip("\u2063").startswith("Cut off at the limit of 20 tokens")
    tab.ask("")
    tab.problem.filter(has_text="the message is empty").wait_for()


def test_a_failing_request_says_so_and_the_next_one_works(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(failure=lambda prompt: EngineError("out of luck") if "bad" in prompt else None)
    tab = open_tab(engine)
    tab.ask("bad")
    tab.facts.filter(has_text="Failed: out of luck").wait_for()
    tab.ask("good")
    tab.wait_until_done(2)
    assert engine.requests[-1][0] == "human: good\n\nadept:"


@pytest.mark.parametrize("ttft_s", [0.0, 30.0], ids=["writing", "reading"])
def test_closing_the_tab_frees_the_engine(open_tab: OpenTab, ttft_s: float) -> None:
    engine = ScriptedEngine(lambda prompt: LONG_ANSWER, tokens_per_s=50, ttft_s=ttft_s, max_num_requests=1)
    tab, queued = open_tab(engine), open_tab(engine)
    tab.ask("Hello?")
    engine.wait_for(lambda stats: stats.num_running == 1)
    queued.ask("Hello?")
    queued.facts.filter(has_text="Waiting").wait_for()
    tab.facts.wait_for()
    queued.page.close()
    assert engine.wait_for(lambda stats: stats.num_waiting == 0, timeout=2) < 1
    assert engine.stats().num_running == 1
    tab.page.close()
    assert engine.wait_for(is_idle, timeout=2) < 1
    assert engine.stats().num_aborted == 2


def test_many_tabs_of_one_browser_can_be_answered_and_stopped(open_tab: OpenTab) -> None:
    """A browser opens at most six connections to a server; a tab must not keep more than one for its answer."""
    engine = ScriptedEngine(lambda prompt: LONG_ANSWER, tokens_per_s=20, max_num_requests=5)
    tabs: list[Any] = []
    for _ in range(5):
        tabs.append(open_tab(engine, beside=tabs[0] if tabs else None))
        tabs[-1].ask("Hello?")
        engine.wait_for(lambda stats: stats.num_running == len(tabs), timeout=2)
    tabs[-1].button("Stop").click()
    engine.wait_for(lambda stats: stats.num_aborted == 1, timeout=1)
    for tab in tabs:
        tab.page.close()
    engine.wait_for(is_idle, timeout=2)


def test_waiting_is_told_and_can_be_stopped(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(lambda prompt: LONG_ANSWER, tokens_per_s=50, max_num_requests=1)
    first, second = open_tab(engine), open_tab(engine)
    first.ask("one")
    first.answers.filter(has_text="word1").wait_for()
    second.ask("two")
    second.facts.filter(has_text="Waiting for a free place: number 1 in the queue").wait_for()
    second.button("Stop").click()
    engine.wait_for(lambda stats: stats.num_waiting == 0, timeout=1)
    second.wait_until_done()
    assert engine.stats().num_running == 1
    first.button("Stop").click()
    first.wait_until_done()


def test_a_new_conversation_ends_the_running_answer(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(lambda prompt: LONG_ANSWER, tokens_per_s=100)
    tab = open_tab(engine)
    tab.ask("one")
    tab.answers.filter(has_text="word1").wait_for()
    tab.button("New conversation").click()
    engine.wait_for(is_idle, timeout=1)
    tab.button("Send").wait_for()
    tab.answers.wait_for(state="detached")
    time.sleep(0.5)
    assert tab.answers.count() == 0
    engine.tokens_per_s = None
    tab.ask("two")
    tab.wait_until_done()
    assert engine.requests[-1][0] == "human: two\n\nadept:"


def test_an_example_can_be_chosen_and_sent_by_keyboard(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(numbered(), notice="A demonstration model.")
    tab = open_tab(engine)
    assert tab.page.get_by_role("note").inner_text() == "A demonstration model."
    tab.page.get_by_role("button", name="What is the capital of France?").focus()
    tab.page.keyboard.press("Enter")
    tab.wait_until_done()
    assert engine.requests[0][0] == "human: What is the capital of France?\n\nadept:"
    assert engine.requests[0][1].temperature == 0
    tab.box.focus()
    tab.page.keyboard.type("again")
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    tab.wait_until_done(2)
    assert engine.requests[1][0].endswith("human: again\n\nadept:")


def test_an_answer_is_shown_as_it_was_written(open_tab: OpenTab) -> None:
    answer = (
        " First line\nsecond <b>line</b>\n\ndef double(x):\n    return 2 * x\n\nThen $$x^2$$ and `<i>`.\n\nhuman: no"
    )
    engine = ScriptedEngine(lambda prompt: answer, tokens_per_s=400)
    tab = open_tab(engine)
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.ask("Show <em>me</em>")
    tab.wait_until_done()
    tab.answers.filter(has_text="Then").wait_for()  # code is coloured, and shown, a little later than the facts
    shown = tab.answers.inner_text()
    assert shown.startswith("First line\nsecond <b>line</b>")
    assert "    return 2 * x" in shown
    assert "human" not in shown
    assert tab.answers.locator(".katex").count() == 1
    assert tab.answers.locator("b, i").count() == 0
    assert tab.questions.inner_text() == "Show <em>me</em>"
    tab.button("Copy message").nth(1).click()
    copied = tab.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("First line\nsecond <b>line</b>\n")
    assert copied.endswith("Then $$x^2$$ and `<i>`.")


def test_hostile_output_runs_nothing_and_calls_nobody(open_tab: OpenTab, listener: tuple[str, list[str]]) -> None:
    address, paths = listener
    attacks = (
        f"<img src='{address}/img' onerror='window.ran = 1'>",
        f"![picture]({address}/markdown-img)",
        "<script>window.ran = 2</script>",
        f"<script src='{address}/script'></script>",
        f"<form action='{address}/form'><button id='bait'>OK</button></form>",
        f"<svg onload='window.ran = 3'><image href='{address}/svg'/></svg>",
        f"<iframe src='{address}/iframe'></iframe><object data='{address}/object'></object>",
        f"<style>@import '{address}/css'; body {{ background: url({address}/background) }}</style>",
        f"<link rel='stylesheet' href='{address}/link'><video src='{address}/video' autoplay></video>",
        f"<div style='position:fixed;inset:0;background:url({address}/div)'>over everything</div>",
        "<a href='javascript:window.ran = 4' id='bait-link'>click</a> [click](javascript:window.ran=5)",
        f"{address}/autolink'><img src='{address}/after-autolink' id='bait'>",
        f"[x]({address}/link '<img src={address}/in-title>') ![<img src={address}/in-alt>]({address}/img-2)",
        f"$$\\includegraphics{{{address}/latex}} \\href{{javascript:window.ran=6}}{{x}}$$",
        "<img src='data:image/svg+xml,<svg onload=window.ran=7>'> [x](data:text/html,<script>window.ran=8</script>)",
        "\0\x07\x08\x1b[31m\u202eright to left\u202c\u2028\ufeff\x85",
        "h" * 20_000,
    )
    engine = ScriptedEngine(lambda prompt: "\n\n".join(attacks), context_length=60_000)
    tab = open_tab(engine)
    tab.page.get_by_label("Max tokens").fill("")
    tab.ask("\n\n".join(attacks))
    tab.wait_until_done()
    for button in ("Rename", "Export", "Delete"):  # which show its title
        tab.button(button).click()
        tab.page.wait_for_timeout(300)
    for link in tab.answers.locator("a").all():
        assert (link.get_attribute("href") or "").startswith(("http", "#")) or not link.get_attribute("href")
    assert tab.page.locator("#bait, main form, main iframe, main script, main object, main svg image").count() == 0
    assert tab.page.evaluate("window.ran") is None

    # What the sanitiser may let through some day is still stopped by the browser.
    tab.page.evaluate(
        """(address) => {
            const holder = document.createElement("div");
            holder.innerHTML = `<img src="${address}/raw-img"><form action="${address}/raw-form"></form>
                <div style="background: url(${address}/raw-css)">x</div><iframe src="${address}/raw-frame"></iframe>`;
            document.body.append(holder);
            holder.querySelector("form").submit();
            fetch(`${address}/raw-fetch`).catch(() => null);
            navigator.sendBeacon(`${address}/raw-beacon`);
        }""",
        address,
    )
    tab.page.wait_for_timeout(500)
    assert paths == []
    assert tab.errors, "the browser reports what it refused"
    assert [error for error in tab.errors if "Content Security Policy" not in error] == []
    tab.errors.clear()
    tab.outside.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(open_tab: OpenTab, scheme: str) -> None:
    answer = f"{'x' * 300}\n\n```\n{'y' * 300}\n```\n\n| {' | '.join('abcdefghij')} |\n|{'-|' * 10}\n$${'z+' * 80}1$$"
    engine = ScriptedEngine(lambda prompt: answer, notice="A demonstration model. " * 5)
    tab = open_tab(engine, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    tab.page.get_by_label("Max tokens").fill("")
    tab.ask("Show me " + "q" * 200)
    tab.wait_until_done()
    widest = tab.page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
    assert widest <= 390
    for locator in (tab.box, tab.button("Send"), tab.facts, tab.page.get_by_label("Seed", exact=True)):
        box = locator.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    background = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_light = sum(int(part) for part in background[4:-1].split(",")[:3]) > 3 * 128
    assert is_light == (scheme == "light")

"""The pages beside the chat in a real Chromium: probabilities, leaderboard, samples and system."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import item_records, other_model, run_record, scored_run, task_record, write_run
from scripted_engine import ScriptedEngine

from evals.report import write_report
from model.interface import SamplingParams

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "<img src=https://example.org/x onerror=alert(1)><script>alert(1)</script>"
TASK = "adept_arc_easy"
LATE_FRAMES = """() => {
    const soon = requestAnimationFrame;
    window.requestAnimationFrame = (show) => setTimeout(() => soon(show), 300);
}"""
PATHS = ("/tokens", "/leaderboard", "/samples", "/system")


@dataclass(frozen=True)
class App:
    """A served app over two engines, the second of them slow."""

    address: str
    fast: ScriptedEngine
    slow: ScriptedEngine


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, serve_app: Callable[..., str]) -> Iterator[App]:
    results = tmp_path_factory.mktemp("results")
    ours = scored_run(results, "ours", {TASK: [True, False] * 30}, started="2026-01-03T00:00:00+00:00")
    items = [changed(item, output=HOSTILE) for item in item_records(TASK, [False] * 60)]
    theirs = task_record(TASK, [False] * 60, items_sha256=ours.tasks[0].items_sha256)
    write_run(results, run_record("theirs", theirs, model=other_model()), items)
    write_report(results)
    fast = ScriptedEngine(lambda prompt: f" {HOSTILE}", model_name="fast")
    slow = ScriptedEngine(lambda prompt: "x" * 500, tokens_per_s=20, model_name="slow", family="llama")
    yield App(serve_app(fast, slow, results=results), fast, slow)
    fast.close()
    slow.close()


def download(tab: Any, button: Any) -> list[dict[str, str]]:
    with tab.page.expect_download() as begun:
        button.click()
    return list(csv.DictReader(io.StringIO(Path(begun.value.path()).read_text(encoding="utf-8"), newline="")))


def test_tokens_of_a_typed_text(app: App, open_tab: Callable[..., Any]) -> None:
    tab = open_tab(app.address, path="/tokens")
    page = tab.page
    page.get_by_label("Prompt").fill("ab")
    page.get_by_label("Answer (may be empty)").fill(HOSTILE)
    tab.button("Show the tokens").click()
    tokens = page.locator("#tokens .token")
    tokens.nth(2 + len(HOSTILE) - 1).wait_for()
    assert [tokens.nth(place).locator("small").inner_text() for place in range(3)] == ["–", "<1", "<1"]
    rows = page.locator("#tokens .figures tbody tr")
    assert rows.nth(0).inner_text().split("\t")[1:3] == ["2", "1"]

    tokens.nth(1).click()
    detail = page.locator("#tokens .token-detail")
    assert "Token 1: b, id 98" in detail.inner_text()
    assert detail.locator("tr").count() == 1 + 10 + 1  # the head, ten alternatives, and the token itself
    page.keyboard.press("ArrowRight")
    assert "Token 2: <, id 60" in detail.inner_text()
    page.keyboard.press("Home")
    assert "no probability" in detail.inner_text()
    assert page.locator("#tokens .token[tabindex='0']").count() == 2  # one stop for Tab in prompt and answer each

    rows = download(tab, page.get_by_role("button", name="Export as CSV"))
    assert [row["part"] for row in rows] == ["prompt"] * 2 + ["answer"] * len(HOSTILE)
    assert rows[0]["logprob"] == ""

    page.get_by_role("tab", name="Tokenisation").click()
    for name in ("fast", "slow"):
        section = page.get_by_role("region", name=f"Tokens of {name}")
        section.wait_for()
        assert f"{2 + len(HOSTILE)} tokens" in section.inner_text()


def test_tokens_the_model_writes_and_stop(app: App, open_tab: Callable[..., Any]) -> None:
    tab = open_tab(app.address, path="/tokens")
    page = tab.page
    page.get_by_label("written by the model").check()
    page.get_by_label("chat format").check()
    page.evaluate(LATE_FRAMES)
    tab.unfold("Settings of the answer", "Max tokens")
    page.get_by_label("Max tokens").fill("200")
    tab.button("Show the tokens").click()
    page.locator("#tokens .token[aria-label^='end of document']").wait_for()
    text = "".join(page.locator("[aria-label='Tokens of the answer'] .token > span").all_inner_texts())
    assert text == HOSTILE.replace(" ", "␣").join(("␣", "end of document"))

    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name="slow").click()
    tab.button("Show the tokens").click()
    page.get_by_text(re.compile("Writing, ")).wait_for()
    tab.button("Stop").click()
    app.slow.wait_for(lambda stats: not stats.num_running, timeout=2)
    page.get_by_text("Stopped.", exact=True).wait_for()

    tab.button("Show the tokens").click()
    page.get_by_text(re.compile("Writing, ")).wait_for()
    page.close()
    app.slow.wait_for(lambda stats: not stats.num_running, timeout=1)


def test_a_refused_text_says_why_and_loses_nothing(app: App, open_tab: Callable[..., Any]) -> None:
    tab = open_tab(app.address, path="/tokens")
    tab.page.get_by_label("Prompt").fill("x" * 3000)
    tab.button("Show the tokens").click()
    tab.problem.wait_for()
    assert "tokens but the context length allows at most" in tab.problem.inner_text()
    assert tab.page.get_by_label("Prompt").input_value() == "x" * 3000
    assert tab.button("Show the tokens").is_enabled()


def test_from_the_leaderboard_to_the_samples(app: App, open_tab: Callable[..., Any]) -> None:
    tab = open_tab(app.address, path="/leaderboard")
    page = tab.page
    page.get_by_role("link", name="50.0 %, items of persimmon-8b-base").wait_for()
    assert page.locator("#leaderboard tbody tr").count() >= 2
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name="persimmon-8b-base").click()
    page.get_by_role("link", name="0.0 %, items of llama-2-7b").wait_for(state="detached")
    rows = download(tab, page.get_by_role("button", name="Export as CSV"))
    assert {row["model"] for row in rows} == {"persimmon-8b-base"}
    page.get_by_role("tab", name="Published against measured").click()
    page.get_by_text("not measured").first.wait_for()
    page.get_by_role("tab", name="Measured here").click()
    page.get_by_role("link", name="50.0 %, items of persimmon-8b-base").click()
    page.wait_for_url("**/samples?run=ours&task=adept_arc_easy")
    page.locator("#samples .item").first.wait_for()
    assert page.get_by_text("1 to 20 of 60 that fit").count() == 1


def test_samples_of_two_runs(app: App, open_tab: Callable[..., Any]) -> None:
    tab = open_tab(app.address, path=f"/samples?run=ours&against=theirs&task={TASK}&show=a-right-b-wrong")
    page = tab.page
    items = page.locator("#samples .item")
    items.first.wait_for()
    assert page.get_by_text("1 to 20 of 30 that fit").count() == 1
    tab.button("Next page").click()
    page.get_by_text("21 to 30 of 30 that fit").wait_for()
    assert items.count() == 10
    items.first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert items.first.locator("pre", has_text=HOSTILE).is_visible()
    assert page.locator("#samples img, #samples .item script").count() == 0

    page.get_by_label("Search (Enter)").fill("item-58")
    page.get_by_label("Search (Enter)").press("Enter")
    page.get_by_text("1 to 1 of 1 that fit").wait_for()
    page.get_by_label("Show", exact=True).click()
    page.get_by_role("option", name="both right").click()
    page.get_by_text("No item fits.").wait_for()


def test_the_system_page_is_live(app: App, open_tab: Callable[..., Any]) -> None:
    tab = open_tab(app.address, path="/system")
    finished = app.fast.stats().num_finished
    page = tab.page
    page.get_by_text(f"{finished:,} finished").first.wait_for()
    app.fast.generate(["hi"], SamplingParams())
    page.get_by_text(f"{finished + 1:,} finished").first.wait_for()
    page.get_by_role("img", name="Tokens per second of fast").wait_for()
    assert "scripted: no attention runs" in page.locator("#system").inner_text()
    assert "none: they need a GPU" in page.locator("#system").inner_text()


@pytest.mark.parametrize("path", PATHS)
def test_narrow_screens_scroll_one_way(app: App, open_tab: Callable[..., Any], path: str) -> None:
    tab = open_tab(app.address, path=path, viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab.page.wait_for_timeout(700)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    unnamed = tab.page.evaluate(
        "[...document.querySelectorAll('main input, main textarea, main button')].filter(one => one.offsetParent && "
        "!(one.labels?.length || one.ariaLabel || one.innerText?.trim() || one.title)).map(one => one.outerHTML)"
    )
    assert unnamed == []

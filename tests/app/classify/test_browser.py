"""The Classify page in a real Chromium, on the scripted engine."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import expect
from scripted_engine import ScriptedEngine

from model.interface import Priority, ScoreRequest, TokenScore

pytestmark = pytest.mark.browser

OpenTab: TypeAlias = Callable[..., Any]


class SlowEngine(ScriptedEngine):
    """Takes a moment for each text."""

    async def ascore(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        await asyncio.sleep(0.2)
        return await super().ascore(requests, priority=priority)


def judge(prompt: str) -> str:
    """Everything with a q in it is positive."""
    return " Positive" if "q" in prompt.rpartition("human:")[2] else " Negative"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server keeps files."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


def open_page(open_tab: OpenTab, engine: ScriptedEngine, **options: Any) -> Any:
    tab = open_tab(engine, **options)
    tab.page.goto(f"{tab.address}/classify")
    tab.page.get_by_label("Text", exact=True).wait_for()
    return tab


def choose(tab: Any, file: Path) -> None:
    tab.page.get_by_role("tab", name="A file").click()
    tab.page.locator("#classify-file input[type=file]").set_input_files(str(file))
    tab.page.locator("#classify-preview table").wait_for()


BAD_ROWS = {
    3: (b"1,\n", "the text is empty"),
    4: (b"2\n", "it has 1 fields but the header has 2"),
    50: (b"48,a,b\n", "it has 3 fields but the header has 2"),
    51: (b"49,caf\xe9\n", "it is not utf-8: byte 0xE9"),
    52: (b'50,"never closed\n', "a quote is opened and not closed"),
    200: (b'198,"closed" early\n', "text follows a closing quote"),
    400: (b"398," + b"long " * 500 + b"\n", "the text is too long: the prompt has"),
    401: (b"399,a\0b\n", "it holds a NUL character"),
    700: (b"698,   \n", "the text is empty"),
    1001: (b'999,"the end\n', "a quote is opened and not closed"),
}


def test_a_thousand_rows_ten_of_them_bad(open_tab: OpenTab, tmp_path: Path, cache: Path) -> None:
    lines = [b"number,text\n", *(b"%d,%s\n" % (row, b"quite" if row % 3 else b"so") for row in range(1000))]
    for line, (content, _) in BAD_ROWS.items():
        lines[line - 1] = content
    source = tmp_path / "reviews.csv"
    # The NUL stands behind what is looked at to recognise files that are no text.
    lines[100:300] = [line.replace(b"quite", b"quite " + b"y" * 60) for line in lines[100:300]]
    source.write_bytes(b"".join(lines))
    tab = open_page(open_tab, ScriptedEngine(judge, context_length=1000))
    choose(tab, source)
    expect(tab.page.locator("#classify-preview")).to_contain_text("it has 1 fields but the header has 2")
    tab.button("Classify all rows").click()
    tab.page.get_by_text("Done: 1,000 rows, 10 not answered · 100 %").wait_for(timeout=60_000)
    expect(tab.page.locator("#classify-reasons li")).to_have_count(10)
    with tab.page.expect_download() as downloading:
        tab.page.get_by_role("link", name="Download the answers").or_(tab.button("Download the answers")).first.click()
    assert downloading.value.suggested_filename == "reviews-classified.csv"
    target = tmp_path / "answers.csv"
    downloading.value.save_as(target)
    with target.open(encoding="utf-8", newline="") as stream:
        rows = {int(row["line"]): row for row in csv.DictReader(stream)}
    assert list(rows) == list(range(2, 1002))
    for line, row in rows.items():
        if line in BAD_ROWS:
            assert row["status"] == "not answered"
            assert row["reason"].startswith(BAD_ROWS[line][1]), row
        else:
            assert row["predicted label"] == ("Positive" if (line - 2) % 3 else "Negative")
            assert float(row["probability of Positive"]) + float(row["probability of Negative"]) == pytest.approx(1)
            assert row["number"] == str(line - 2)

    assert list(cache.rglob("reviews.csv"))
    tab.page.locator("#classify-file").get_by_label("Clear").or_(
        tab.page.locator("#classify-file button")
    ).first.click()
    expect(tab.button("Classify all rows")).to_be_disabled()
    assert not list(cache.rglob("reviews.csv"))


@pytest.mark.parametrize("by", ["the button", "a failure"])
def test_a_run_can_be_stopped_and_what_is_answered_stays(
    open_tab: OpenTab, tmp_path: Path, cache: Path, by: str
) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("quick\n" * 5000)
    engine = SlowEngine(judge)
    tab = open_page(open_tab, engine)
    choose(tab, source)
    tab.button("Classify all rows").click()
    tab.page.get_by_text(" left", exact=False).wait_for()
    if by == "the button":
        tab.button("Stop").locator("visible=true").click()
    else:
        engine.close()
    tab.page.get_by_text("Stopped: the file of answers ends here").wait_for()
    expect(tab.problem).to_have_count(int(by == "a failure"))
    (answers,) = cache.rglob("lines-classified.csv")
    with answers.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert 0 < len(rows) < 5000
    assert {row["predicted label"] for row in rows} == {"Positive"}
    assert set(engine.priorities) == {"batch"}
    expect(tab.button("Classify all rows")).to_be_enabled()


def test_one_text_its_bars_and_what_moved_it(open_tab: OpenTab) -> None:
    tab = open_page(open_tab, ScriptedEngine(judge, heads={"mood": ("sad", "glad")}, logits=lambda head, text: (0, 1)))
    tab.page.get_by_label("Text", exact=True).fill("so <b>quick</b> a fox")
    tab.button("What moved it?").click()
    pieces = tab.page.locator("#classify-moved .pieces .piece")
    expect(pieces).to_have_count(4)
    expect(pieces.nth(1)).to_contain_text("<b>quick</b>")
    effects = [float(piece.split("\n")[-1].replace("−", "-")) for piece in pieces.all_inner_texts()]
    assert max(effects) == effects[1] > 1
    expect(tab.page.locator("#classify-bars tr.chosen")).to_contain_text("Positive")

    tab.page.get_by_label("Labels, one a line").fill("Positive")
    tab.button("Classify").click()
    expect(tab.problem).to_contain_text("one label alone is always right")
    tab.page.get_by_label("Several labels may hold of one text").check()
    expect(tab.page.locator("#classify-template textarea")).to_have_value(
        'human: Is this text {label}? "{text}"\n\nadept:'
    )
    tab.button("Classify").click()
    expect(tab.page.locator("#classify-bars caption")).to_have_text("Probability of each label")
    assert tab.problem.count() == 0

    tab.page.get_by_label("Decide by").click()
    tab.page.get_by_role("option", name="Trained head: mood (sad, glad)").click()
    expect(tab.page.locator("#classify-template textarea")).to_be_hidden()
    tab.button("Classify").click()
    expect(tab.page.locator("#classify-bars tr.chosen")).to_contain_text("glad")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_and_hostile_cells_are_text(
    open_tab: OpenTab, tmp_path: Path, cache: Path, scheme: str
) -> None:
    source = tmp_path / "hostile.csv"
    attack = "<img src=x onerror='window.ran=1'>"
    source.write_text(f"text,{attack}\n{'x' * 300},{attack}\n$$a$$ [b](javascript:window.ran=2),**c**\n")
    engine = ScriptedEngine(judge)
    tab = open_page(open_tab, engine, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    choose(tab, source)
    preview = tab.page.locator("#classify-preview")
    expect(preview).to_contain_text(attack)
    expect(preview).to_contain_text("$$a$$ [b](javascript:window.ran=2)")
    expect(preview).to_contain_text("**c**")
    assert preview.locator("img, a, strong").count() == 0
    assert tab.page.evaluate("window.ran") is None
    assert tab.page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)") <= 390

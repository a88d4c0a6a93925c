"""Conversations that are kept, files, edited answers and raw completion, in a real Chromium on the scripted engine."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import expect
from scripted_engine import ScriptedEngine

from app.api.options import ApiOptions
from app.store import Database

pytestmark = pytest.mark.browser

OpenTab: TypeAlias = Callable[..., Any]
Served: TypeAlias = Callable[..., Any]

LONG_ANSWER = " ".join(f"word{number}" for number in range(400))


def listed(tab: Any) -> Any:
    return tab.page.locator("#conversations label")


def ask_anew(tab: Any, *questions: str) -> None:
    for question in questions:
        tab.button("New conversation").click()
        expect(tab.questions).to_have_count(0)
        tab.ask(question)
        tab.wait_until_done()


def test_conversations_outlive_the_server_and_belong_to_a_browser(
    open_tab: OpenTab, serve: Served, tmp_path: Path
) -> None:
    engine = ScriptedEngine(lambda prompt: " Green.", tokens_per_s=400)
    database = Database(tmp_path / "app.sqlite3")
    with serve(engine, database=database) as address:
        tab = open_tab(address)
        ask_anew(tab, "What colour is grass?", "And the sky?")
        expect(listed(tab)).to_have_text(["And the sky?", "What colour is grass?"])
        tab.page.goto("about:blank")
    database.close()

    database = Database(tmp_path / "app.sqlite3")
    with serve(engine, database=database) as address:
        again = open_tab(address, beside=tab)
        expect(listed(again)).to_have_text(["And the sky?", "What colour is grass?"])
        listed(again).nth(1).click()
        expect(again.answers).to_have_text(["Green."])
        again.ask("Really?")
        again.wait_until_done(2)
        assert engine.requests[-1][0] == "human: What colour is grass?\n\nadept: Green.\n\nhuman: Really?\n\nadept:"
        expect(listed(again)).to_have_text(["What colour is grass?", "And the sky?"])
        stranger = open_tab(address)
        stranger.page.get_by_text("Conversations will be kept here.").wait_for()
        assert listed(stranger).count() == 0
        for one in (again, stranger):
            one.page.goto("about:blank")
    database.close()
    engine.close()


def test_search_rename_delete_export_and_import(open_tab: OpenTab, tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda prompt: f" About <b>{len(prompt)}</b>.")
    tab = open_tab(engine)
    ask_anew(tab, "apples", "pears")
    search = tab.page.get_by_label("Search conversations")
    search.fill("APPLE")
    expect(listed(tab)).to_have_text(["apples"])
    listed(tab).first.click()
    expect(tab.questions).to_have_text(["apples"])

    tab.button("Rename").click()
    tab.page.get_by_label("Title").fill("Fruit <i>")
    tab.button("Save title").click()
    expect(listed(tab)).to_have_text(["Fruit <i>"])
    search.fill("")
    expect(listed(tab)).to_have_text(["pears", "Fruit <i>"])

    files = {}
    tab.button("Export").click()
    for kind in ("JSON", "Markdown"):
        with tab.page.expect_download() as download:
            tab.page.get_by_role("link", name=f"This one as {kind}").click()
        files[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[kind])
    assert sorted(file.name for file in files.values()) == ["fruit-i.json", "fruit-i.md"]
    [exported] = json.loads(files["JSON"].read_text())["conversations"]
    answer = exported["turns"][0]["answer"]
    assert (answer["model"], answer["settings"]["top_p"], answer["outcome"]["finish_reason"]) == (
        "scripted-engine",
        0.9,
        "stop",
    )
    assert "<b>" not in files["Markdown"].read_text()

    tab.button("Delete").click()
    tab.page.get_by_text("Delete “Fruit <i>” for good?").wait_for()
    tab.button("Keep it").click()
    expect(listed(tab)).to_have_count(2)
    tab.button("Delete").click()
    tab.button("Delete it").click()
    expect(listed(tab)).to_have_text(["pears"])
    expect(tab.questions).to_have_count(0)

    for count, file in enumerate(files.values(), 2):
        tab.page.locator("#library-column input[type=file]").set_input_files(file)
        expect(listed(tab)).to_have_count(count)
        expect(tab.questions).to_have_text(["apples"])
        expect(tab.answers).to_have_text(["About <b>21</b>."])
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    tab.page.locator("#library-column input[type=file]").set_input_files(bad)
    tab.problem.filter(has_text="bad.json cannot be imported ('format' is missing)").wait_for()


def test_an_edited_answer_is_continued(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(lambda prompt: " and more." if prompt.endswith("adept: I think <so>") else " One.")
    tab = open_tab(engine)
    tab.ask("first")
    tab.wait_until_done(1)
    tab.ask("second")
    tab.wait_until_done(2)
    tab.button("Edit").nth(1).click()
    tab.page.locator(".edit-textarea:visible").fill("I think <so>")
    tab.button("Submit").click()
    expect(tab.answers).to_have_text(["I think <so> and more."])
    tab.wait_until_done(1)
    assert engine.requests[-1][0] == "human: first\n\nadept: I think <so>"
    assert "went on from 12 characters" in tab.facts.inner_text()
    tab.button("Continue the answer").click()
    expect(tab.answers).to_have_text(["I think <so> and more. One."])
    tab.wait_until_done(1)
    expect(tab.questions).to_have_text(["first"])


def test_a_text_file_stands_in_the_message(open_tab: OpenTab, tmp_path: Path) -> None:
    engine = ScriptedEngine(context_length=400)
    tab = open_tab(engine)
    meter = tab.page.locator("#context-meter")
    expect(meter).to_contain_text("Context: 0 of 400 tokens")
    tab.box.fill("Sum up:")
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    tab.page.locator("#write-row input[type=file]").set_input_files(table)
    expect(tab.box).to_have_value("Sum up:\n\ntable.csv:\n```csv\na,b\n1,2\n```\n\n")
    prompt = "human: Sum up:\n\ntable.csv:\n```csv\na,b\n1,2\n```\n\nadept:"
    expect(meter).to_contain_text(f"Context: {len(prompt)} of 400 tokens")
    for name, data, why in (
        ("big.txt", b"x" * 300_000, "262,144 bytes can be attached"),
        ("latin.txt", b"\xe9t\xe9", "latin.txt is not UTF-8 text (byte 0)"),
    ):
        file = tmp_path / name
        file.write_bytes(data)
        tab.page.locator("#write-row input[type=file]").set_input_files(file)
        tab.problem.filter(has_text=why).wait_for()
    tab.box.press("Enter")
    tab.wait_until_done()
    assert engine.requests[0][0] == prompt


def test_a_text_is_completed_stopped_and_taken_back(open_tab: OpenTab) -> None:
    engine = ScriptedEngine(lambda prompt: LONG_ANSWER, tokens_per_s=60)
    tab = open_tab(engine)
    tab.page.get_by_role("tab", name="Complete a text").click()
    text = tab.page.get_by_label("Text", exact=True)
    text.fill("Once upon a time ")
    tab.button("Go on").click()
    expect(text).to_have_value(re.compile("word1"))
    tab.button("Stop writing").click()
    assert engine.wait_for(lambda stats: stats.num_running == 0, timeout=1) < 1
    tab.button("Go on").wait_for()
    assert text.input_value().startswith("Once upon a time word0 word1")
    assert engine.requests[0][0] == "Once upon a time "
    tab.page.locator("#text-facts").get_by_text("Stopped").wait_for()
    tab.button("Take back").click()
    expect(text).to_have_value("Once upon a time ")


def test_one_of_several_models_is_chosen_and_a_full_queue_says_so(open_tab: OpenTab, serve: Served) -> None:
    numbers = itertools.count()
    one = ScriptedEngine(lambda prompt: f" one {next(numbers)}", model_name="model-one")
    two = ScriptedEngine(lambda prompt: LONG_ANSWER, model_name="model-two", tokens_per_s=30, max_num_requests=1)
    with serve(one, two, options=ApiOptions(max_queue=0)) as address:
        tabs = [open_tab(address) for _ in range(2)]
        for tab in tabs:
            tab.page.get_by_label("Model").click()
            tab.page.get_by_role("option", name="model-two").click()
            tab.page.get_by_role("heading", name="model-two").wait_for()
            tab.ask("hello")
        tabs[0].answers.filter(has_text="word1").wait_for()
        tabs[1].problem.filter(has_text="model-two is busy: 1 requests run and 0 wait already").wait_for()
        assert tabs[1].box.input_value() == "hello"
        tabs[0].button("Stop").click()
        tabs[0].wait_until_done()
        assert tabs[0].facts.inner_text().endswith("model-two")
        for tab in tabs:
            tab.page.goto("about:blank")
    assert [prompt for prompt, _ in two.requests] == ["human: hello\n\nadept:"]
    one.close()
    two.close()

"""Heads trained on the page: kept for their own base, found again, and used at once."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from scripted_engine import ScriptedEngine

from app.classify.kept_heads import MAX_HEADS, attach_kept, new_folder
from model.demo.passages import review
from model.interface import InvalidRequest
from model.open_engine import DEMO_CHECKPOINT, open_engine


def test_heads_are_kept_by_the_weights_they_belong_to(tmp_path: Path) -> None:
    engine = ScriptedEngine(heads={"own": ("a", "b")})
    folder = new_folder(engine, tmp_path, "mood")
    folder.mkdir(parents=True)
    (folder / "head.json").write_text(json.dumps({}))
    other = tmp_path / "another-base" / "theirs"
    other.mkdir(parents=True)
    (other / "head.json").write_text(json.dumps({}))
    attach_kept([engine], tmp_path)
    assert list(engine.heads) == ["own", "mood"]
    for name, message in (
        ("mood", "has a head 'mood' already"),
        ("own", "has a head 'own' already"),
        ("../up", "is not allowed"),
        ("", "is not allowed"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            new_folder(engine, tmp_path, name)
    full = ScriptedEngine(heads={f"head-{number}": ("a", "b") for number in range(MAX_HEADS)})
    with pytest.raises(InvalidRequest, match="which is the most"):
        new_folder(full, tmp_path, "one-more")
    engine.close()
    full.close()


@pytest.mark.slow
@pytest.mark.browser
def test_a_head_is_trained_measured_and_used(open_tab: Callable[..., Any], tmp_path: Path) -> None:
    draw = random.Random(0)
    drawn = [review(draw) for _ in range(400)]
    source = tmp_path / "labelled.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            [
                ("said", "mood"),
                *((one.text, "good" if one.sentiment == "positive" else "bad") for one in drawn),
                ("x", ""),
            ]
        )
    tab = open_tab(open_engine(str(DEMO_CHECKPOINT), device="cpu", kv_cache_tokens=4096))
    page = tab.page
    page.goto(f"{tab.address}/classify")
    page.get_by_role("tab", name="Train a head").click()
    page.locator("#train-file input[type=file]").set_input_files(str(source))
    expect(page.get_by_label("Column with the labels")).to_have_value("mood")
    page.get_by_label("Name of the head").fill("no/such")
    tab.button("Train the head").click()
    expect(tab.problem).to_contain_text("the name 'no/such' is not allowed")
    page.get_by_label("Name of the head").fill("moods")
    tab.button("Train the head").click()
    result = page.locator("#train-result")
    result.get_by_text("Head moods is trained and can be chosen").wait_for(timeout=60_000)
    expect(result).to_contain_text("TF-IDF and logistic regression")
    expect(result).to_contain_text("line 402: mood is empty")
    expect(result.locator("img")).to_have_count(2)
    expect(page.get_by_label("Decide by")).to_have_value("Trained head: moods (bad, good)")
    page.get_by_role("tab", name="One text").click()
    for text, label in (("What a wonderful hotel!", "good"), ("The soup was awful.", "bad")):
        page.get_by_label("Text", exact=True).fill(text)
        tab.button("Classify").click()
        expect(page.locator("#classify-bars tr.chosen")).to_contain_text(label)

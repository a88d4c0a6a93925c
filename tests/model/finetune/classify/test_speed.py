"""The comparison of speeds: its page, and that nothing is timed where the sides do not agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.finetune.classify import speed
from model.finetune.classify.speed import Speed, main, render, works


def test_ratios_are_of_medians() -> None:
    one = Speed(
        name="short",
        rows=1000,
        mean_tokens=9.4,
        longest=13,
        ours=(400.0, 500.0, 410.0),
        pipeline=(100.0, 99.0, 120.0),
        batched=(205.0, 200.0, 210.0),
        batch_size=8,
    )
    page = render([one], {"processor": "a loom"}, threads=2, rounds=3)
    assert "| short | 1,000 | 9 (13) | 410 (400 to 500) | 100 (99 to 120) | 4.1 | 205 (200 to 210) (8) | 2.0 |" in page
    assert page.endswith("- processor: a loom\n")


def test_texts_are_the_same_for_everybody_and_distinct() -> None:
    first, again = works(90), works(90)
    assert [work.texts for work in first] == [work.texts for work in again]
    assert [len(set(work.texts)) for work in first] == [90, 30, 30]


def test_sides_that_differ_are_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "TOLERANCE", -1.0)
    assert main(["--rows", "3", "--rounds", "1", "--output", str(tmp_path / "bench")]) == 1
    assert "one sentence: probabilities differ by" in capsys.readouterr().err
    assert not (tmp_path / "bench").exists()

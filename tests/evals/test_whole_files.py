"""Files that are there whole or not at all, and refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evals.errors import EvaluationError
from evals.whole_files import read_json, write_json, write_whole


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write_json(tmp_path / "new" / "a.json", {"schema": 1, "value": 2.5})
    assert read_json(path, schema=1, build=lambda raw: raw["value"]) == 2.5
    assert [one.name for one in path.parent.iterdir()] == ["a.json"]


def test_what_was_there_stays_until_all_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "a.md", "first")

    def killed(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "second")
    assert path.read_text() == "first"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read as a report"),
        ("{", "cannot be read as a report"),
        ("[]", "cannot be read as a report"),
        ("{}", "cannot be read as a report"),
        ('{"schema": 1}', "cannot be read as a report"),
        ('{"schema": 2, "value": 1}', "has schema 2, and 1 is read"),
    ],
)
def test_what_is_no_report_is_refused_in_one_sentence(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EvaluationError) as error:
        read_json(path, schema=1, build=lambda raw: raw["value"])
    assert str(error.value).startswith("a.json ")
    assert said in str(error.value)
    assert str(error.value).endswith("remove it and run again")


def test_no_figure_is_infinite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("inf")})
    assert not list(tmp_path.iterdir())

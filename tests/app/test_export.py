"""CSV exports: read back as they were, but for what a spreadsheet would run."""

from __future__ import annotations

import csv
import io

import pytest

from app.export import FORMULA_STARTS, to_csv


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_texts_read_back_as_they_were() -> None:
    rows = [["a,b", 'say "hi"', "two\nlines", " blank", "é"], ["", "x=1", "1-2", "'", "0"]]
    assert read(to_csv(["1", "2", "3", "4", "5"], rows))[1:] == rows


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_formulas_are_texts(start: str) -> None:
    header, row = read(to_csv([f"{start}name"], [[f"{start}cmd|' /C calc'!A0"]]))
    assert header == [f"'{start}name"]
    assert row == [f"'{start}cmd|' /C calc'!A0"]


def test_numbers_stay_numbers_and_the_undefined_is_empty() -> None:
    (row,) = read(to_csv(["a", "b", "c", "d", "e"], [[-1, -0.5, None, float("nan"), "-1.5e-3"]]))[1:]
    assert row == ["-1", "-0.5", "", "", "-1.5e-3"]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells but there are 1 columns"):
        to_csv(["a"], [["x", "y"]])

"""Labelled files: what is read, and the line and the reason of everything that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.finetune.classify.labelled import SHOWN_PROBLEMS, BadRows, LabelledData, Problem, read_labelled
from model.finetune.documents import DataError


def read(path: Path, content: str | bytes) -> LabelledData:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labelled(path, text_column="text", label_column="label")


def test_csv_with_texts_over_several_lines(tmp_path: Path) -> None:
    content = '﻿id,label,text\r\n1,good,"two\nlines"\r\n\r\n2, bad ,=1+1\r\n3,good,"two\nlines"\r\n'
    data = read(tmp_path / "a.csv", content)
    assert [(one.text, one.label, one.line) for one in data.texts] == [("two\nlines", "good", 2), ("=1+1", "bad", 5)]
    assert (data.num_repeated, data.problems) == (1, ())


def test_jsonl_with_numbers_as_labels(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b", "label": 1}, {"text": "c", "label": "x"}]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    data = read(tmp_path / "a.jsonl", f"{content}\n\n")
    assert [(one.text, one.label, one.line) for one in data.texts] == [("a\u2028b", "1", 1), ("c", "x", 2)]


def test_bad_rows_of_a_csv_file(tmp_path: Path) -> None:
    content = "text,label\nfine,a\n,a\nno label,  \nthree,a,b\nfine,b\nfine,a\n"
    data = read(tmp_path / "a.csv", content)
    assert [one.text for one in data.texts] == ["fine"]
    assert data.num_repeated == 1
    assert data.problems == (
        Problem(3, "text is empty: write a text"),
        Problem(4, "label is empty: write a text"),
        Problem(5, "this row has 3 columns instead of 2"),
        Problem(6, "the text of line 2 is here again with the label 'b' instead of 'a': keep one of them"),
    )


def test_bad_rows_of_a_jsonl_file(tmp_path: Path) -> None:
    rows = [
        '{"text": "fine", "label": "a"}',
        "{broken",
        "[1]",
        '{"text": 3, "label": "a"}',
        '{"text": "x", "label": true}',
        '{"label": "a"}',
        '{"text": "half \\ud83d", "label": "a"}',
        "[" * 100_000,
    ]
    problems = read(tmp_path / "a.jsonl", "\n".join(rows)).problems
    assert [problem.line for problem in problems] == [2, 3, 4, 5, 6, 7, 8]
    assert [problem.sentence.split(":")[0] for problem in problems] == [
        "this is no JSON (Expecting property name enclosed in double quotes)",
        "this is no JSON object",
        "text=3 is not allowed",
        "label=True is not allowed",
        "text is empty",
        "a text has half a surrogate pair",
        problems[-1].sentence.split(":")[0],
    ]
    assert problems[-1].sentence.startswith("this is no JSON (maximum recursion depth exceeded")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", "x", r"a\.txt is neither \.jsonl nor \.csv: give the file one of these endings$"),
        (
            "a.csv",
            b"text,label\nfine,a\ncaf\xe9,a\n",
            r"a\.csv, line 3: this is not UTF-8 \(.*\): save the file as UTF-8$",
        ),
        ("a.csv", "text,kind\nx,y\n", r"a\.csv has the columns text, kind: it needs label once, or say which columns"),
        ("a.csv", "text,text,label\n", r"has the columns text, text, label: it needs text once"),
        ("a.csv", "", r"has the columns \(none\): it needs text once"),
        ("a.csv", 'text,label\nfine,a\n"open,b\n', r"a\.csv, line 3: this is no CSV \(.*\): check the quotes$"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / name, content)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.csv is not there: check the path$"):
        read_labelled(tmp_path / "b.csv", text_column="text", label_column="label")


def test_the_error_lists_rows_up_to_a_number() -> None:
    problems = [Problem(line, "wrong") for line in range(2, SHOWN_PROBLEMS + 5)]
    error = BadRows(Path("a.csv"), problems)
    shown = str(error).splitlines()
    assert shown[0] == "a.csv, line 2: wrong"
    assert len(shown) == SHOWN_PROBLEMS + 1
    assert shown[-1] == "... and 3 more lines"
    assert error.problems == tuple(problems)

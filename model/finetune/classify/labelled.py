"""Labelled texts from a CSV or JSONL file, and every row that cannot be used, by its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from model.finetune.documents import LONGEST_CELL, DataError

SHOWN_PROBLEMS = 20
Row: TypeAlias = "tuple[int, dict[str, Any] | str]"
"""The line a row begins in, and its columns, or why it has none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the row that begins in a line cannot be used: one sentence."""

    line: int
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}"


class BadRows(DataError):
    """Rows of a file cannot be used; the text has a sentence for each, up to SHOWN_PROBLEMS.

    Attributes:
        problems: all of them, by line.
    """

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        shown = [f"{path}, {problem}" for problem in problems[:SHOWN_PROBLEMS]]
        rest = len(problems) - len(shown)
        super().__init__("\n".join([*shown, *([f"... and {rest} more lines"] if rest else [])]))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text with its label and the line it came from."""

    text: str
    label: str
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledData:
    """What a file holds.

    Attributes:
        texts: each text once, in the file's order.
        num_repeated: rows left out because the same text with the same label came before.
        problems: the rows that cannot be used.
    """

    texts: tuple[LabelledText, ...]
    num_repeated: int
    problems: tuple[Problem, ...]


def read_labelled(path: Path, *, text_column: str, label_column: str) -> LabelledData:
    """Read a `.csv` or `.jsonl` file in UTF-8. A label is a text or a whole number.

    Raises:
        DataError: the file cannot be read at all; a single row that cannot is one of the `problems`.
    """
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    ending = path.suffix.lower()
    if ending not in readers:
        raise DataError(f"{path} is neither .jsonl nor .csv: give the file one of these endings")
    if not path.is_file():
        raise DataError(f"{path} is not there: check the path")
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # a byte order mark
    try:
        decoded = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: this is not UTF-8 ({error.reason}): save the file as UTF-8") from None
    known: dict[str, LabelledText] = {}
    problems: list[Problem] = []
    num_repeated = 0
    for line, row in readers[ending](path, decoded, (text_column, label_column)):
        found = row if isinstance(row, str) else _labelled(line, row, text_column, label_column)
        if isinstance(found, str):
            problems.append(Problem(line, found))
            continue
        before = known.setdefault(found.text, found)
        if before.label != found.label:
            problems.append(
                Problem(
                    line,
                    f"the text of line {before.line} is here again with the label {found.label!r} instead of "
                    f"{before.label!r}: keep one of them",
                )
            )
        elif before is not found:
            num_repeated += 1
    return LabelledData(texts=tuple(known.values()), num_repeated=num_repeated, problems=tuple(problems))


def _labelled(line: int, row: dict[str, Any], text_column: str, label_column: str) -> LabelledText | str:
    text, label = row.get(text_column), row.get(label_column)
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    for column, value in ((text_column, text), (label_column, label)):
        if value is None or (isinstance(value, str) and not value.strip()):
            return f"{column} is empty: write a text"
        if not isinstance(value, str):
            return f"{column}={value!r} is not allowed: it must be a text"
    try:
        f"{text}{label}".encode()
    except UnicodeEncodeError:  # JSON can write down half a character, such as "\ud83d"
        return "a text has half a surrogate pair: write whole characters"
    assert isinstance(text, str)
    assert isinstance(label, str)
    return LabelledText(text, label.strip(), line)


def _jsonl_rows(path: Path, content: str, columns: tuple[str, str]) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets
            yield number, f"this is no JSON ({getattr(error, 'msg', error)}): write one object"
            continue
        yield number, row if isinstance(row, dict) else "this is no JSON object: write one with a text and a label"


def _csv_rows(path: Path, content: str, columns: tuple[str, str]) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    line = 1  # where a row begins; it may have several
    try:
        names = next(reader, [])
        for column in columns:
            if names.count(column) != 1:
                raise DataError(
                    f"{path} has the columns {', '.join(names) or '(none)'}: it needs {column} once, or say which "
                    "columns hold text and label"
                )
        line = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(names):
                yield line, f"this row has {len(cells)} columns instead of {len(names)}"
            elif cells:
                yield line, dict(zip(names, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:  # where the next row begins cannot be told
        raise DataError(f"{path}, line {line}: this is no CSV ({error}): check the quotes") from None

"""Rows of a CSV or JSONL file, or lines of a text, read as they are needed. A row that cannot be used is still a row,
with the reason."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from app.classify.lines import MAX_LINE_BYTES, Line, LineSource, encoding_problem, printable
from model.interface import InvalidRequest

Format: TypeAlias = Literal["csv", "jsonl", "text"]
FORMATS: tuple[Format, ...] = ("csv", "jsonl", "text")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
}
TEXT_COLUMN = "text"
MAX_RECORD_CHARACTERS = MAX_LINE_BYTES
"""Of one CSV row, whose quoted fields may hold line ends: further on, an open quote is taken for a mistake."""

_CSV_PROBLEMS = {
    "unexpected end of data": "a quote is opened and not closed",
    "expected after": "text follows a closing quote without a delimiter between",
    "field larger": f"a field is longer than {MAX_RECORD_CHARACTERS:,} characters",
    "new-line character": "a carriage return stands in a field without quotes",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the input.

    Attributes:
        line: the file's line it begins at, from 1.
        end: bytes of the file up to its end.
        cells: what it holds, by column; of a row that could not be taken apart, as much as there is, under the text's
            column.
        text: to be classified; `None` if there is a problem.
        problem: why it cannot be used; empty if it can.
    """

    line: int
    end: int
    cells: Mapping[str, Any]
    text: str | None = None
    problem: str = ""


class Table:
    """An opened file.

    Args:
        stream: read from where it is; stays the caller's to close.
        delimiter: of CSV, one character; `None` finds it in the first lines.

    Attributes:
        columns: of CSV, as its header names them; of other formats unknown before the rows are read, so empty.
        has_bom: whether it begins with a byte order mark, as spreadsheets write.

    Raises:
        InvalidRequest: the file has no usable header, or cannot be text; an option is not known.
    """

    def __init__(
        self,
        stream: io.BufferedReader,
        *,
        format: Format,
        encoding: str = "utf-8",
        delimiter: str | None = None,
    ) -> None:
        if format not in FORMATS:
            raise InvalidRequest(f"format={format!r} is not allowed: use {', '.join(FORMATS)}")
        self.format = format
        self._lines = LineSource(stream, encoding=encoding)
        self.has_bom = self._lines.has_bom
        self.columns: tuple[str, ...] = ()
        if format == "csv":
            csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_CHARACTERS))
            self._records = _records(iter(self._lines), delimiter or _find_delimiter(self._lines.beginning))
            self.columns = _header(next(self._records, None), encoding)

    def rows(self, column: str = TEXT_COLUMN) -> Iterator[Row]:
        """Every row once, with the text in `column` (of a text file the line itself).

        Raises:
            InvalidRequest: a CSV file has no such column.
        """
        if self.format == "csv":
            if column not in self.columns:
                raise InvalidRequest(f"column {column!r} is not there: the columns are {', '.join(self.columns)}")
            return self._csv_rows(column)
        return self._jsonl_rows(column) if self.format == "jsonl" else self._text_rows(column)

    def _csv_rows(self, column: str) -> Iterator[Row]:
        for record in self._records:
            fields = record.fields
            if not fields and len(self.columns) > 1:  # a blank line is no row, but where it may be an empty text
                continue
            fields = fields or ("",)
            problem = record.problem or encoding_problem(record.raw, self._lines.encoding)
            if not problem and len(fields) != len(self.columns):
                problem = f"it has {len(fields)} fields but the header has {len(self.columns)}"
            if problem:
                cells: dict[str, Any] = {column: printable(record.raw.rstrip("\r\n"))}
                yield Row(line=record.line, end=record.end, cells=cells, problem=problem)
                continue
            cells = dict(zip(self.columns, fields, strict=True))
            yield _row(record.line, record.end, cells, column)

    def _jsonl_rows(self, column: str) -> Iterator[Row]:
        for line in self._lines:
            if not line.text.strip():
                continue
            problem = _line_problem(line, self._lines.encoding)
            cells: Any = None
            if not problem:
                try:
                    cells = json.loads(line.text.rstrip())
                except json.JSONDecodeError as error:
                    problem = f"it is not JSON ({error.msg} at character {error.colno})"
                except RecursionError:
                    problem = "it is nested too deeply"
            if not problem and not isinstance(cells, dict):
                problem = f"it is a JSON {_json_type(cells)}, not an object with columns"
            if problem:
                raw = {column: printable(line.text.rstrip("\r\n"))}
                yield Row(line=line.number, end=line.end, cells=raw, problem=problem)
            else:
                yield _row(line.number, line.end, cells, column)

    def _text_rows(self, column: str) -> Iterator[Row]:
        for line in self._lines:
            text = line.text.removesuffix("\n").removesuffix("\r")
            problem = _line_problem(line, self._lines.encoding)
            if problem:
                yield Row(line=line.number, end=line.end, cells={column: printable(text)}, problem=problem)
            else:
                yield _row(line.number, line.end, {column: text}, column)


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    end: int
    raw: str
    fields: tuple[str, ...]
    problem: str = ""


def _records(lines: Iterator[Line], delimiter: str) -> Iterator[_Record]:
    """CSV records. After one that cannot be read, reading goes on at its second line."""
    waiting: deque[Line] = deque()
    taken: list[Line] = []

    def feed() -> Iterator[str]:
        length = 0
        while (line := waiting.popleft() if waiting else next(lines, None)) is not None:
            taken.append(line)
            length += len(line.text)
            if line.is_too_long:
                raise csv.Error(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
            if length > MAX_RECORD_CHARACTERS:
                raise csv.Error("unexpected end of data")
            yield line.text

    while True:
        taken.clear()
        try:
            fields = next(csv.reader(feed(), delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            first, *rest = taken
            # What stops a row of several lines is, mostly, that the quote they stand in should have ended before.
            reason = "unexpected end of data" if rest else str(error)
            waiting.extendleft(reversed(rest))
            told = next((told for part, told in _CSV_PROBLEMS.items() if part in reason), reason)
            yield _Record(first.number, first.end, first.text, ("",), told)
            continue
        if fields is None:
            return
        raw = "".join(line.text for line in taken)
        yield _Record(taken[0].number, taken[-1].end, raw, tuple(fields))


def _header(record: _Record | None, encoding: str) -> tuple[str, ...]:
    if record is None:
        raise InvalidRequest("the file is empty: its first line must name the columns")
    problem = record.problem or encoding_problem(record.raw, encoding)
    if problem:
        raise InvalidRequest(f"the header in line {record.line} cannot be read: {problem}")
    names = tuple(name.strip() or f"column {place}" for place, name in enumerate(record.fields, start=1))
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"the header names the column {name!r} {names.count(name)} times: names are unique")
    if not names:
        raise InvalidRequest("the first line is blank: it must name the columns")
    return names


def _find_delimiter(beginning: str) -> str:
    """That by which most of the first lines, their quoted parts aside, have as many fields as the header, which has at
    least two; else a comma."""
    lines = beginning.splitlines()[:20]
    best, most = ",", 0
    for delimiter in DELIMITERS.values():
        counts = [sum(part.count(delimiter) for part in line.split('"')[::2]) for line in lines]
        agreeing = sum(count == counts[0] for count in counts) if counts and counts[0] else 0
        if agreeing > most:
            best, most = delimiter, agreeing
    return best


def _row(line: int, end: int, cells: Mapping[str, Any], column: str) -> Row:
    text, problem = cells.get(column), ""
    if column not in cells:
        problem = f"it has no column {column!r}"
    elif text is None or (isinstance(text, str) and not text.strip()):
        problem = "the text is empty"
    elif not isinstance(text, str):
        problem = f"the text is a JSON {_json_type(text)}: put it in quotes"
    elif "\0" in text:
        problem = "it holds a NUL character, so it is no text"
    else:
        problem = encoding_problem(text, "text")
    return Row(line=line, end=end, cells=cells, text=None if problem else text, problem=problem)


def _line_problem(line: Line, encoding: str) -> str:
    if line.is_too_long:
        return f"the line is longer than {MAX_LINE_BYTES:,} bytes"
    return encoding_problem(line.text, encoding)


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", type(None): "null"}
    return names.get(type(value), "number")

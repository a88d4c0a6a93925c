"""The file of answers: a row for every row of the input, with the answer or the reason why there is none."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any, Literal, TextIO, TypeAlias

from app.classify.classifier import Classifier, Prediction
from app.classify.lines import encoding_problem
from app.classify.rows import Row
from app.export import CsvCell, guarded

AnswersFormat: TypeAlias = Literal["csv", "jsonl"]
ANSWERS_FORMATS: tuple[AnswersFormat, ...] = ("csv", "jsonl")
BETWEEN_LABELS = "; "

Status: TypeAlias = Literal["answered", "cut", "not answered"]
"""`cut`: answered, but the end of the text did not fit and was left out."""


def status_of(outcome: Prediction | str) -> Status:
    """Of an answer, or of the reason why there is none."""
    if isinstance(outcome, str):
        return "not answered"
    return "cut" if outcome.is_cut else "answered"


class AnswersWriter:
    """Writes answers to a text stream, which stays the caller's to close.

    Args:
        stream: opened with `newline=""`.
        columns: of the input that are copied (CSV; JSONL copies the whole row as `input`).
        with_bom: whether a byte order mark comes first, as spreadsheets want it to recognise UTF-8.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        format: AnswersFormat,
        classifier: Classifier,
        columns: Sequence[str],
        with_bom: bool = False,
    ) -> None:
        self._stream = stream
        self._format = format
        self._labels = classifier.labels
        self._kind = classifier.kind
        self._columns = tuple(columns)
        self._csv = csv.writer(stream)
        if format == "csv":
            stream.write("\ufeff" if with_bom else "")
            own = ["line", "status", "reason", *self._answer_columns()]
            self._csv.writerow([guarded(name) for name in [*own, *_told_apart(self._columns, own)]])

    def write(self, row: Row, outcome: Prediction | str) -> None:
        """One row: its answer, or why it has none."""
        if self._format == "csv":
            self._csv.writerow([guarded(cell) for cell in self._cells(row, outcome)])
            return
        answer: dict[str, Any] = {"line": row.line, "status": status_of(outcome)}
        if isinstance(outcome, str):
            answer["reason"] = outcome
        elif self._kind == "regression":
            answer["values"] = dict(zip(self._labels, outcome.values, strict=True))
        else:
            answer["label"] = outcome.labels[0] if self._kind == "single" else list(outcome.labels)
            answer["probabilities"] = dict(zip(self._labels, outcome.values, strict=True))
        answer["input"] = dict(row.cells)
        line = json.dumps(answer, ensure_ascii=False)
        if encoding_problem(line, "text"):  # a lone surrogate can only be written as it was read, as \\ud800
            line = json.dumps(answer)
        self._stream.write(line + "\n")

    def _answer_columns(self) -> list[str]:
        if self._kind == "regression":
            return [f"value of {label}" for label in self._labels]
        return ["predicted label", *(f"probability of {label}" for label in self._labels)]

    def _cells(self, row: Row, outcome: Prediction | str) -> list[CsvCell]:
        cells: list[CsvCell] = [row.line, status_of(outcome)]
        if isinstance(outcome, str):
            cells += [outcome, *[None] * len(self._answer_columns())]
        else:
            chosen = [] if self._kind == "regression" else [BETWEEN_LABELS.join(outcome.labels)]
            cells += [None, *chosen, *outcome.values]
        return [*cells, *(_cell(row.cells.get(column)) for column in self._columns)]


def _told_apart(columns: Sequence[str], own: Sequence[str]) -> list[str]:
    """The input's columns under names that the answers' do not have."""
    names: list[str] = []
    for column in columns:
        name = column
        while name in own or name in names:
            name += " (input)"
        names.append(name)
    return names


def _cell(value: Any) -> CsvCell:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(value)

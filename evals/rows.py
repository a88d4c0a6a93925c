"""The rules of each kind of row, and the errors that name what breaks them."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from evals.data import Row
from evals.errors import DataError


def read_multiple_choice(place: str, raw: Mapping[str, Any]) -> Row:
    """A row of ARC: `id`, `question`, `choices` {`text`, `label`}, `answerKey`.

    Labels become A, B, C, ... by their place, and the key with them: some rows of the Hub carry 1 to 4, and
    a few have three or five choices.

    Args:
        place: where the row stands, for the error.

    Raises:
        DataError: a column is missing or breaks its rule.
    """
    choices = _column(place, raw, "choices", Mapping, "an object with text and label")
    texts = [
        _text(place, "choices.text", value) for value in _column(place, choices, "text", list, "a list", "choices.")
    ]
    labels = [
        _text(place, "choices.label", value) for value in _column(place, choices, "label", list, "a list", "choices.")
    ]
    if len(texts) != len(labels):
        raise DataError(f"{place}, column choices: {len(texts)} texts but {len(labels)} labels: each needs the other")
    if not 2 <= len(labels) <= len(ascii_uppercase):
        raise DataError(f"{place}, column choices: {len(labels)} choices are not 2 to {len(ascii_uppercase)}")
    if len(set(labels)) != len(labels):
        raise DataError(f"{place}, column choices.label: {labels} repeats a label: labels are distinct")
    key = _text(place, "answerKey", raw.get("answerKey"))
    if key not in labels:
        raise DataError(f"{place}, column answerKey: {key!r} is not one of the labels {', '.join(labels)}")
    letters = list(ascii_uppercase[: len(labels)])
    return {
        "id": _text(place, "id", raw.get("id")),
        "question": _text(place, "question", raw.get("question")),
        "choices": {"text": texts, "label": letters},
        "answerKey": letters[labels.index(key)],
    }


def _column(place: str, raw: Mapping[str, Any], name: str, kind: type, rule: str, path: str = "") -> Any:
    if name not in raw:
        raise DataError(f"{place}, column {path}{name} is missing: it must be {rule}")
    if not isinstance(raw[name], kind):
        raise DataError(f"{place}, column {path}{name}: a {type(raw[name]).__name__} is not allowed: it must be {rule}")
    return raw[name]


def _text(place: str, column: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}, column {column}: {value!r} is not allowed: it must be text that is not blank")
    return value

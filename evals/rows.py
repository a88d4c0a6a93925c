"""The rules of each kind of row, and the errors that name what breaks them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from evals.benchmark import Row
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


def read_mmlu(place: str, raw: Mapping[str, Any]) -> Row:
    """A row of MMLU: `question`, `subject`, `choices` (four texts), `answer` 0 to 3. It gets ARC's columns.

    Raises:
        DataError: a column is missing or breaks its rule.
    """
    texts = [_text(place, "choices", value) for value in _column(place, raw, "choices", list, "a list")]
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise DataError(f"{place}, column choices: {len(texts)} choices are not 2 to {len(ascii_uppercase)}")
    answer = _column(place, raw, "answer", int, f"a place from 0 to {len(texts) - 1}")
    if isinstance(answer, bool) or not 0 <= answer < len(texts):
        raise DataError(f"{place}, column answer: {answer!r} is not a place from 0 to {len(texts) - 1}")
    letters = list(ascii_uppercase[: len(texts)])
    question, subject = (_text(place, name, raw.get(name)) for name in ("question", "subject"))
    return {
        "id": _content_id("mmlu", subject, question, *texts),
        "question": question,
        "subject": subject,
        "choices": {"text": texts, "label": letters},
        "answerKey": letters[answer],
    }


def read_winogrande(place: str, raw: Mapping[str, Any]) -> Row:
    """A row of WinoGrande: `sentence` with one `_`, `option1`, `option2`, `answer` "1" or "2". It gets ARC's `choices`
    and `answerKey` too.

    Raises:
        DataError: a column is missing or breaks its rule.
    """
    sentence, *options = (_text(place, name, raw.get(name)) for name in ("sentence", "option1", "option2"))
    if sentence.count("_") != 1:
        raise DataError(f"{place}, column sentence: {sentence!r} must have one _ where the word is missing")
    if raw.get("answer") not in ("1", "2"):
        raise DataError(f"{place}, column answer: {raw.get('answer')!r} is not allowed: it must be '1' or '2'")
    return {
        "id": _content_id("winogrande", sentence, *options),
        "sentence": sentence,
        "option1": options[0],
        "option2": options[1],
        "answer": raw["answer"],
        "choices": {"text": options, "label": ["1", "2"]},
        "answerKey": raw["answer"],
    }


def read_triviaqa(place: str, raw: Mapping[str, Any]) -> Row:
    """A row of TriviaQA: `question_id`, `question`, `answer` {`value`, `aliases`}; other columns are left out.

    Raises:
        DataError: a column is missing or breaks its rule.
    """
    answer = _column(place, raw, "answer", Mapping, "an object with value and aliases")
    aliases = [
        _text(place, "answer.aliases", value) for value in _column(place, answer, "aliases", list, "a list", "answer.")
    ]
    return {
        "id": _text(place, "question_id", raw.get("question_id")),
        "question": _text(place, "question", raw.get("question")),
        "answer": {"value": _text(place, "answer.value", answer.get("value")), "aliases": aliases},
    }


def read_humaneval(place: str, raw: Mapping[str, Any]) -> Row:
    """A row of HumanEval: `task_id`, `prompt`, `canonical_solution`, `test`, `entry_point`.

    Raises:
        DataError: a column is missing or breaks its rule.
    """
    names = ("prompt", "canonical_solution", "test", "entry_point")
    row = {"id": _text(place, "task_id", raw.get("task_id"))}
    row |= {name: _text(place, name, raw.get(name)) for name in names}
    if not row["entry_point"].isidentifier():
        raise DataError(f"{place}, column entry_point: {row['entry_point']!r} is no Python name")
    return row


def _content_id(benchmark: str, *texts: str) -> str:
    """A short name for a row that brings none, from all that makes it what it is."""
    return f"{benchmark}/{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}"

"""Published figures, each with its source and protocol, from one file that is checked when it is read.

A cell without a readable source has no value. `evals/data/reference_figures.yaml` says how a person with a source
open types values in; no code changes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from evals.errors import EvaluationError

DEFAULT = Path(__file__).parent / "data" / "reference_figures.yaml"
MODELS = ("mpt-7b", "mpt-7b-instruct", "llama-2-7b", "persimmon-8b-base", "persimmon-8b-chat")
TASKS = ("mmlu", "winogrande", "arc_easy", "arc_challenge", "triviaqa", "humaneval")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFigure:
    """One published score.

    Attributes:
        model, task: of `MODELS` and `TASKS`.
        value: percent, 0 to 100; `None` where no readable source gives one.
        shots: examples in the prompt; `None` where the source does not say.
        protocol: how it was measured, in words.
        comparable: measured as the suite `adept` does: 1-shot, by generating text.
        source, url: where it can be read.
    """

    model: str
    task: str
    value: float | None
    shots: int | None
    protocol: str
    comparable: bool
    source: str | None = None
    url: str | None = None


_KEYS = tuple(field.name for field in fields(ReferenceFigure))
_OPTIONAL = ("source", "url")


def load_reference_figures(path: Path = DEFAULT) -> tuple[ReferenceFigure, ...]:
    """The figures of a file, in its order.

    Raises:
        EvaluationError: the file cannot be read, or an entry breaks a rule; the text names both and the rule.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise EvaluationError(f"{path.name} cannot be read ({error.strerror}): give another file") from None
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except yaml.YAMLError as error:
        raise EvaluationError(f"{path.name} is not YAML ({' '.join(str(error).split())}): correct it") from None
    if not isinstance(raw, dict) or not {"figures"} <= set(raw) <= {"figures", "sources"}:
        raise EvaluationError(f"{path.name} must hold the key figures, and beside it at most sources")
    if not isinstance(raw["figures"], list):
        raise EvaluationError(
            f"{path.name}, figures is a {type(raw['figures']).__name__}: it must be a list of entries"
        )
    places: dict[tuple[object, ...], int] = {}
    figures = []
    for number, entry in enumerate(raw["figures"], start=1):
        figure = _read_entry(f"{path.name}, entry {number}", entry)
        place = f"{path.name}, entry {number} ({figure.model}, {figure.task})"
        key = (figure.model, figure.task, figure.shots, figure.protocol)
        if key in places:
            raise EvaluationError(
                f"{place} repeats entry {places[key]}: no two have the same model, task, shots and protocol"
            )
        places[key] = number
        figures.append(figure)
    return tuple(figures)


def reference_table(figures: Iterable[ReferenceFigure]) -> pd.DataFrame:
    """The figures as a table with one column per attribute, `value` in percent and NaN where there is none."""
    rows = [[getattr(figure, key) for key in _KEYS] for figure in figures]
    table = pd.DataFrame(rows, columns=list(_KEYS))
    return table.astype({"value": "float64", "shots": "Int64"})


class _StrictLoader(yaml.SafeLoader):
    """A key typed twice is an error; YAML's own loaders take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"{key} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _read_entry(place: str, entry: object) -> ReferenceFigure:
    if not isinstance(entry, Mapping):
        raise EvaluationError(f"{place} is a {type(entry).__name__}: it must be an entry with {', '.join(_KEYS)}")
    place = f"{place} ({entry.get('model')}, {entry.get('task')})"
    if unknown := [str(key) for key in entry if key not in _KEYS]:
        raise EvaluationError(f"{place} has {', '.join(unknown)}: the keys are {', '.join(_KEYS)}")
    if missing := [key for key in _KEYS if key not in entry and key not in _OPTIONAL]:
        raise EvaluationError(
            f"{place} lacks {', '.join(missing)}: every entry has it, and value and shots may be null"
        )
    value, shots = entry["value"], entry["shots"]
    _check(place, "model", entry["model"], entry["model"] in MODELS, f"one of {', '.join(MODELS)}")
    _check(place, "task", entry["task"], entry["task"] in TASKS, f"one of {', '.join(TASKS)}")
    _check(place, "value", value, _is_percent(value), "a number from 0 to 100, with a point, or null")
    _check(place, "shots", shots, shots is None or (type(shots) is int and shots >= 0), "a count or null")
    _check(place, "protocol", entry["protocol"], _is_text(entry["protocol"]), "text that is not blank")
    _check(place, "comparable", entry["comparable"], isinstance(entry["comparable"], bool), "true or false")
    for key in _OPTIONAL:
        text = entry.get(key)
        _check(place, key, text, text is None or _is_text(text), "text that is not blank, or null")
    if value is not None and entry.get("source") is None:
        raise EvaluationError(f"{place} has the value {value} and no source: a figure without one stays null")
    return ReferenceFigure(**(dict(entry) | {"value": None if value is None else float(value)}))


def _check(place: str, key: str, value: object, allowed: bool, rule: str) -> None:
    if not allowed:
        raise EvaluationError(f"{place}, {key}: {value!r} is not allowed: it must be {rule}")


def _is_percent(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= 100)  # type: ignore[operator]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())

"""The published figures, and what their file may not say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.errors import EvaluationError
from evals.reference_figures import DEFAULT, MODELS, TASKS, load_reference_figures, reference_table

ENTRY: dict[str, Any] = {
    "model": "llama-2-7b",
    "task": "mmlu",
    "value": 45.3,
    "shots": 5,
    "protocol": "5-shot, likelihood",
    "comparable": False,
    "source": "a paper",
    "url": None,
}
# PROTOCOL's table: model and the values of mmlu, winogrande, arc_easy, arc_challenge, triviaqa, humaneval.
PUBLISHED = {
    ("llama-2-7b", False): (45.3, 69.2, 75.2, 45.9, 68.9, 12.8),
    ("mpt-7b", False): (26.8, 68.3, 70.2, 42.6, 59.6, 18.3),
    ("mpt-7b-instruct", False): (32.35, 70.48, None, 50.34, None, None),
    ("persimmon-8b-base", False): (None, None, 67.80, 34.64, None, None),
    ("persimmon-8b-chat", False): (45.2, None, None, None, None, None),
    ("persimmon-8b-chat", True): (41.2, None, None, None, None, None),
}


def write(folder: Path, *entries: object) -> Path:
    path = folder / "figures.yaml"
    path.write_text(yaml.safe_dump({"figures": list(entries)}), encoding="utf-8")
    return path


def test_bundled_figures() -> None:
    figures = load_reference_figures()
    found = {(figure.model, figure.comparable, figure.task): figure.value for figure in figures if figure.value}
    expected = {
        (model, comparable, task): value
        for (model, comparable), values in PUBLISHED.items()
        for task, value in zip(TASKS, values, strict=True)
        if value is not None
    }
    assert found == expected
    assert all(figure.source and figure.url and figure.protocol for figure in figures)


def test_announcement_has_a_cell_for_each_model_and_task() -> None:
    cells = [figure for figure in load_reference_figures() if figure.comparable]
    announced = set(MODELS) - {"mpt-7b"}
    assert {(cell.model, cell.task) for cell in cells} == {(model, task) for model in announced for task in TASKS}
    assert len(cells) == 24
    assert all(cell.shots == 1 for cell in cells)
    assert sum(cell.value is None for cell in cells) == 23


def test_typing_a_value_in_is_enough(tmp_path: Path) -> None:
    text = DEFAULT.read_text(encoding="utf-8")
    blank = "model: persimmon-8b-base, task: mmlu,          value: null"
    assert blank in text
    path = tmp_path / "figures.yaml"
    path.write_text(text.replace(blank, blank.replace("null", "50.5")), encoding="utf-8")
    (typed,) = set(load_reference_figures(path)) - set(load_reference_figures())
    assert (typed.value, typed.source) == (50.5, "Adept 2023, Releasing Persimmon-8B")


def test_table() -> None:
    table = reference_table(load_reference_figures())
    assert len(table) == len(load_reference_figures())
    assert math.isnan(table.loc[0, "value"])  # type: ignore[arg-type]
    assert table["value"].max() == 75.2
    assert reference_table([]).empty


def test_whole_numbers_and_missing_optional_keys(tmp_path: Path) -> None:
    entry = {key: value for key, value in ENTRY.items() if key not in ("url",)} | {"value": 45, "shots": None}
    (figure,) = load_reference_figures(write(tmp_path, entry))
    assert figure.value == 45.0
    assert isinstance(figure.value, float)
    assert figure.shots is None
    assert figure.url is None
    empty = {key: value for key, value in ENTRY.items() if key != "source"} | {"value": None}
    assert load_reference_figures(write(tmp_path, empty))[0].source is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"model": "gpt-2"}, "model: 'gpt-2' is not allowed: it must be one of mpt-7b, "),
        ({"model": ["mpt-7b"]}, "model: .* is not allowed"),
        ({"task": "hellaswag"}, "task: 'hellaswag' is not allowed: it must be one of mmlu, "),
        ({"value": 100.1}, "value: 100.1 is not allowed: it must be a number from 0 to 100"),
        ({"value": -1}, "value: -1 is not allowed"),
        ({"value": math.nan}, "value: nan is not allowed"),
        ({"value": "41,2"}, "value: '41,2' is not allowed: it must be a number from 0 to 100, with a point, or null"),
        ({"value": True}, "value: True is not allowed"),
        ({"shots": -1}, "shots: -1 is not allowed: it must be a count or null"),
        ({"shots": True}, "shots: True is not allowed"),
        ({"protocol": " "}, "protocol: ' ' is not allowed: it must be text that is not blank"),
        ({"protocol": None}, "protocol: None is not allowed"),
        ({"comparable": "yes"}, "comparable: 'yes' is not allowed: it must be true or false"),
        ({"source": ""}, "source: '' is not allowed"),
        ({"source": None}, "has the value 45.3 and no source: a figure without one stays null"),
        ({"url": 3}, "url: 3 is not allowed"),
        ({"shot": 5}, "has shot: the keys are model, task, "),
    ],
)
def test_rules(tmp_path: Path, change: dict[str, Any], rule: str) -> None:
    with pytest.raises(EvaluationError, match=rf"^figures\.yaml, entry 2 \(.*\),? ?{rule}"):
        load_reference_figures(write(tmp_path, ENTRY | {"task": "humaneval"}, ENTRY | change))


def test_missing_keys_and_repeated_cells(tmp_path: Path) -> None:
    short = {key: value for key, value in ENTRY.items() if key not in ("shots", "comparable")}
    with pytest.raises(EvaluationError, match="lacks shots, comparable"):
        load_reference_figures(write(tmp_path, short))
    with pytest.raises(EvaluationError, match=r"entry 2 \(llama-2-7b, mmlu\) repeats entry 1: no two have the same"):
        load_reference_figures(write(tmp_path, ENTRY, ENTRY | {"value": None}))
    assert len(load_reference_figures(write(tmp_path, ENTRY, ENTRY | {"protocol": "0-shot"}))) == 2
    with pytest.raises(EvaluationError, match="entry 1 is a str: it must be an entry with model, task"):
        load_reference_figures(write(tmp_path, "mmlu"))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[]", "must hold the key figures"),
        ("figures: []\nfigurs: []", "must hold the key figures, and beside it at most sources"),
        ("figures: {}", "figures is a dict: it must be a list of entries"),
        ("figures: [", "is not YAML"),
        ("figures:\n  - {model: mpt-7b, value: null, value: 3}", "is not YAML .*value stands twice.*line 2"),
        ("figures: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_files_that_are_not_figures(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "figures.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match=rule) as error:
        load_reference_figures(path)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"gone\.yaml cannot be read"):
        load_reference_figures(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes("figures: [\xe9]".encode("latin-1"))
    with pytest.raises(EvaluationError, match=r"latin\.yaml is not UTF-8 text"):
        load_reference_figures(tmp_path / "latin.yaml")

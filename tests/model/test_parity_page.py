"""The parity page: what it says, when it fails, and that the one in results/ is of today's cases."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import model.parity.__main__ as command
from model.interface import EngineError
from model.parity.cases import BY_DEFINITION, Case, Oracle, all_cases, bundled_cases
from model.parity.classification import (
    SECTION,
    SETTINGS,
    ClassifierCase,
    ClassifierComparison,
    classifier_cases,
    compare_classifier,
)
from model.parity.compare import Comparison, Error, LowPrecision, compare
from model.parity.page import render, row_keys
from model.parity.verdict import classifier_faults, failures, faults

ROOT = Path(__file__).resolve().parents[2]
CASE = Case(family="persimmon", name="published shape")
SETTING = {"torch": "1.2.3", "processor": "a loom"}


def comparison(case: Case = CASE, **changes: Any) -> Comparison:
    """One without faults."""
    values: dict[str, Any] = {
        "case": case,
        "std": 1.64,
        "float32": Error(2.9e-6, 3e-7),
        "hugging_face": None,
        "low_precision": {
            torch.bfloat16: LowPrecision(Error(0.123, 0.0119), Error(0.098, 0.0118)),
            torch.float16: LowPrecision(Error(0.0072, 0.0014), Error(math.nan, math.nan)),
        },
        "num_equal": 16,
    }
    return Comparison(**(values | changes))


def by_definition(name: str, hugging_face: Error | None) -> Comparison:
    rounded = LowPrecision(Error(0.08, 0.01), None)
    return comparison(
        Case(family="mpt", name=name, oracle=Oracle.DEFINITION),
        hugging_face=hugging_face,
        low_precision={torch.bfloat16: rounded, torch.float16: rounded},
    )


def test_figures_have_one_digit() -> None:
    page = render([comparison(), by_definition("biases", Error(5.7, 1.0)), by_definition("narrow mlp", None)], SETTING)
    assert "All 3 rows are within their bounds." in page
    assert "| Persimmon | 1 | 3e-06 | 1 of 1 | 1.0 | – |" in page
    assert "| published shape | 1.6 | 3e-06 | 16 of 16 | 1e-01 | 1e-01 | 7e-03 | not finite |" in page
    assert "| biases | 1.6 | 3e-06 | 16 of 16 | 8e-02 | 8e-02 | 6e+00 |" in page
    assert "| narrow mlp | 1.6 | 3e-06 | 16 of 16 | 8e-02 | 8e-02 | fails |" in page
    assert page.endswith("- torch: 1.2.3\n- processor: a loom\n")


def test_rows_can_be_read_back() -> None:
    comparisons = [comparison(case) for case in all_cases() if case.oracle is Oracle.HUGGING_FACE]
    comparisons += [by_definition("biases", None)]
    keys = row_keys(render(comparisons, SETTING))
    assert keys == [(c.case.section, c.case.name) for c in comparisons]
    assert keys[-1] == (BY_DEFINITION, "biases")


def test_names_are_unique() -> None:
    names = [(case.section, case.name) for case in all_cases()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"float32": Error(2e-4, 1e-6)}, "float32 logits differ by 2e-04"),
        ({"float32": Error(math.nan, math.nan)}, "float32 logits differ by nan"),
        ({"num_equal": 3}, "greedy token 4 differs"),
        (
            {"low_precision": {torch.bfloat16: LowPrecision(Error(0.5, 0.03), Error(0.5, 0.02))}},
            "bfloat16 mean error is 1.5 times Hugging Face's",
        ),
        (
            {"low_precision": {torch.float16: LowPrecision(Error(math.nan, math.nan), Error(0.5, 0.02))}},
            "float16 logits are not finite",
        ),
        (
            {"low_precision": {torch.float16: LowPrecision(Error(math.inf, math.inf), None)}},
            "float16 logits are not finite",
        ),
    ],
)
def test_every_bound_is_kept(changes: dict[str, Any], phrase: str) -> None:
    assert faults(comparison()) == []
    assert faults(comparison(**changes)) == [phrase]


def test_bad_rows_are_named() -> None:
    bad = comparison(dataclasses.replace(CASE, name="one head"), float32=Error(0.3, 0.1), num_equal=0)
    sentence = "Persimmon / one head (float32 logits differ by 3e-01, greedy token 1 differs)"
    assert failures([comparison(), bad]) == [sentence]
    assert f"**Over a bound:** {sentence}." in render([comparison(), bad], SETTING)


def classifier(**changes: Any) -> ClassifierComparison:
    """One without faults."""
    values: dict[str, Any] = {
        "case": ClassifierCase(family="mpt", setting=SETTINGS[1]),
        "std": 1.28,
        "float32": Error(2.9e-6, 3e-7),
        "loss": 1.614,
        "loss_error": 4.1e-7,
    }
    return ClassifierComparison(**(values | changes))


def test_classifiers_have_a_section_and_bounds() -> None:
    page = render([comparison()], SETTING, classifiers=[classifier()])
    assert "All 2 rows are within their bounds." in page
    assert "| mpt: single label, padded right | 1.3 | 3e-06 | 1.61 | 4e-07 |" in page
    assert row_keys(page)[-1] == (SECTION, "mpt: single label, padded right")
    assert classifier_faults(classifier()) == []
    bad = classifier(float32=Error(math.nan, 0.0), loss_error=2e-4)
    assert classifier_faults(bad) == ["float32 logits differ by nan", "losses differ by 2e-04"]
    assert "**Over a bound:** Sequence classification / mpt: single label, padded right (" in render(
        [], SETTING, classifiers=[bad]
    )


@pytest.mark.parametrize("case", classifier_cases(), ids=lambda case: case.name)
def test_classifiers_equal_hugging_face(case: ClassifierCase, tmp_path: Path) -> None:
    found = compare_classifier(case, tmp_path)
    assert found.std > 0.5, "weights too small for the comparison to mean anything"
    assert found.loss > 0.1
    assert classifier_faults(found) == []


@pytest.fixture
def one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sees one random case and leaves this process's settings alone."""
    monkeypatch.setattr(command, "all_cases", lambda: [CASE])
    monkeypatch.setattr(command, "classifier_cases", lambda: [])
    monkeypatch.setattr(command, "prepare", lambda: None)


@pytest.mark.usefixtures("one_case")
def test_the_command_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "page.md"
    assert command.main(["--output", str(path)]) == 0
    assert row_keys(path.read_text(encoding="utf-8")) == [("Persimmon", "published shape")]
    assert capsys.readouterr().out == f"wrote {path}\n"


@pytest.mark.usefixtures("one_case")
def test_the_command_fails_over_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "compare", lambda case, scratch: comparison(case, float32=Error(1e-3, 1e-4)))
    assert command.main(["--output", str(tmp_path / "page.md")]) == 1
    shown = capsys.readouterr()
    assert "over a bound: Persimmon / published shape (float32 logits differ by 1e-03)" in shown.err
    assert "**Over a bound:** Persimmon / published shape" in (tmp_path / "page.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("one_case")
def test_what_cannot_be_compared_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(case: Case, scratch: Path) -> Comparison:
        raise EngineError("it will not load")

    monkeypatch.setattr(command, "compare", refuse)
    assert command.main(["--output", str(tmp_path / "page.md")]) == 1
    assert "model.parity: Persimmon / published shape: it will not load" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


@pytest.mark.usefixtures("one_case")
def test_one_family_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "compare", lambda case, scratch: comparison(case))
    before = command.PAGE.read_bytes()
    assert command.main(["--family", "persimmon"]) == 0
    assert row_keys(capsys.readouterr().out) == [("Persimmon", "published shape")]
    assert command.PAGE.read_bytes() == before


@pytest.mark.parametrize("case", bundled_cases(), ids=lambda case: case.name)
def test_bundled_checkpoints_equal_hugging_face(case: Case, tmp_path: Path) -> None:
    assert faults(compare(case, tmp_path)) == []
    assert not list(tmp_path.iterdir())


def test_the_page_is_of_these_cases_and_libraries() -> None:
    page = command.PAGE.read_text(encoding="utf-8")
    keys = [(case.section, case.name) for case in [*all_cases(), *classifier_cases()]]
    assert row_keys(page) == keys, "results/parity.md is of other cases: run `make parity`"
    assert f"All {len(keys)} rows are within their bounds." in page
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        if name in ("torch", "transformers"):
            assert f"- {name}: {version}" in page, f"results/parity.md is of another {name}: run `make parity`"

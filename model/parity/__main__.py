"""Compare every configuration with Hugging Face and write the page; exit 1 if a row is over its bound.

python -m model.parity                       all rows, into results/parity.md
python -m model.parity --family mpt          one family's rows, on standard output
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read by the libraries when they are imported: nothing here is on the Hub
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from tqdm import tqdm  # type: ignore[import-untyped]

from model.families.registry import FAMILIES
from model.interface import EngineError
from model.parity.cases import Case, all_cases
from model.parity.classification import ClassifierCase, ClassifierComparison, classifier_cases, compare_classifier
from model.parity.compare import Comparison, compare
from model.parity.page import render
from model.parity.setting import setting
from model.parity.verdict import failures

PAGE = Path(__file__).resolve().parents[2] / "results" / "parity.md"


def prepare() -> None:
    """Settings of this process that make the figures the same again and the output short."""
    torch.set_num_threads(1)  # the order of sums, and with it their last digits, depends on their number
    transformers.utils.logging.set_verbosity_error()  # else it lists the tensors it has no place for
    transformers.utils.logging.disable_progress_bar()


def compute(
    cases: Sequence[Case], classifiers: Sequence[ClassifierCase]
) -> tuple[list[Comparison], list[ClassifierComparison]]:
    """All comparisons, with a progress bar where there is a terminal.

    Raises:
        EngineError: a checkpoint cannot be compared; the text names the row.
    """
    comparisons: list[Comparison] = []
    of_classifiers: list[ClassifierComparison] = []
    for case in tqdm([*cases, *classifiers], unit="row", disable=None):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                if isinstance(case, ClassifierCase):
                    of_classifiers.append(compare_classifier(case, Path(scratch)))
                else:
                    comparisons.append(compare(case, Path(scratch)))
            except EngineError as error:
                raise EngineError(f"{case.section} / {case.name}: {error}") from error
    return comparisons, of_classifiers


def main(arguments: list[str] | None = None) -> int:
    """0 if every row is within its bounds, else 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m model.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=FAMILIES, help="only this family (default: all)")
    parser.add_argument("--output", type=Path, help=f"default: {PAGE}; with --family standard output")
    options = parser.parse_args(arguments)
    output = options.output or (None if options.family else PAGE)

    prepare()
    try:
        comparisons, classifiers = compute(
            [case for case in all_cases() if options.family in (None, case.family)],
            [case for case in classifier_cases() if options.family in (None, case.family)],
        )
    except EngineError as error:
        print(f"model.parity: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("model.parity: stopped; nothing was written", file=sys.stderr)
        return 130  # as a shell reports SIGINT
    page = render(comparisons, setting(), classifiers=classifiers)
    if output is None:
        print(page, end="")
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
        print(f"wrote {output}")
    bad = failures(comparisons, classifiers)
    if bad:
        print(f"model.parity: over a bound: {'; '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

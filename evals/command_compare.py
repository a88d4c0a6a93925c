"""Compare two runs item by item: paired differences, McNemar's exact test, Holm over the table, and the items on which
the two differ. Tasks that both runs have are compared, on the items that both have answered."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from evals.command_run import add_output
from evals.errors import EvaluationError

if TYPE_CHECKING:
    from evals.record import RunRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m evals compare`."""
    parser.add_argument("a", help="name of a run (a folder of results/runs), or of a model: its latest complete run")
    parser.add_argument("b", help="the same")
    parser.add_argument("--format", choices=("markdown", "csv", "latex"), default="markdown", help="default: markdown")
    parser.add_argument("--no-items", action="store_true", help="only the table, not the items that differ")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m evals compare`."""
    from evals.comparison import compare, differing_items
    from evals.comparison_table import render_comparison, render_differing_items
    from evals.item_results import item_results

    a, b = (find_run(options.output, name) for name in (options.a, options.b))
    _check_comparable(a, b)
    results_a, results_b = (item_results(options.output / "runs" / record.run) for record in (a, b))
    name_a, name_b = a.model["name"], b.model["name"]
    if name_a == name_b:
        name_a, name_b = a.run, b.run
    print(render_comparison(compare(results_a, results_b), name_a=name_a, name_b=name_b, form=options.format))
    if not options.no_items:
        print(render_differing_items(differing_items(results_a, results_b), form=options.format))
    return 0


def find_run(output: Path, name: str) -> RunRecord:
    """The run of that name, or the latest of the model of that name, a complete one if there is one.

    Raises:
        EvaluationError: there is none.
    """
    from evals.report import read_records

    records = read_records(output)
    for record in records:
        if record.run == Path(name).name:
            return record
    of_model = [record for record in records if record.model["name"] == name]
    of_model.sort(key=lambda record: (record.complete, record.started))
    if not of_model:
        known = ", ".join(sorted({record.model["name"] for record in records})) or "none"
        raise EvaluationError(f"no run and no model is called {name!r}: the models with runs are {known}")
    return of_model[-1]


def _check_comparable(a: RunRecord, b: RunRecord) -> None:
    items = [{task.task: (task.version, task.items_sha256) for task in record.tasks} for record in (a, b)]
    shared = items[0].keys() & items[1].keys()
    if not shared:
        raise EvaluationError(f"{a.run} and {b.run} have no task in common: compare runs of one suite")
    for task in sorted(shared):
        if items[0][task][0] != items[1][task][0]:
            raise EvaluationError(f"{a.run} and {b.run} have other versions of {task}: run one of them again")

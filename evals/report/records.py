"""What a report is made from, read from `results/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals import rope_precision, sparsity
from evals.comparison import ItemResult
from evals.errors import EvaluationError
from evals.item_results import item_results
from evals.record import ITEMS_NAME, RECORD_NAME, RunRecord, read_record
from evals.reference_figures import load_reference_figures
from evals.report.gpu import read_gpu
from evals.report.page import Sources


def read_records(output: Path) -> list[RunRecord]:
    """All records under `<output>/runs`, oldest first.

    Raises:
        EvaluationError: a record cannot be read, or lies in a folder of another name than the run's.
    """
    records = []
    for path in sorted((output / "runs").glob(f"*/{RECORD_NAME}")):
        record = read_record(path)
        if record.run != path.parent.name:
            raise EvaluationError(
                f"{path.parent.name}/{RECORD_NAME} is the record of run {record.run!r}: a run's folder has its name"
            )
        records.append(record)
    return sorted(records, key=lambda record: (record.started, record.run))


def read_sources(output: Path) -> Sources:
    """Everything a report of `output` shows.

    Raises:
        EvaluationError: a file cannot be read.
    """

    def items(record: RunRecord, tasks: frozenset[str]) -> Sequence[ItemResult] | None:
        folder = output / "runs" / record.run
        return item_results(folder, tasks=tasks) if (folder / ITEMS_NAME).is_file() else None

    zeros, rotary = sparsity.read_records(output), rope_precision.read_records(output)
    return Sources(
        records=tuple(read_records(output)),
        items=items,
        figures=load_reference_figures(),
        gpu=read_gpu(output),
        measurements=tuple(
            text
            for text in (
                sparsity.render(zeros) if zeros else "",
                rope_precision.render(rotary) if rotary else "",
            )
            if text
        ),
    )

"""A recorded run's items, as `evals.comparison` takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from evals.comparison import ItemResult
from evals.errors import EvaluationError
from evals.item_record import read_items
from evals.record import ITEMS_NAME, RECORD_NAME, read_record


def item_results(folder: Path, *, tasks: Collection[str] | None = None) -> list[ItemResult]:
    """Every score of every item of the run in `folder`, or of some of its tasks.

    Raises:
        EvaluationError: a file cannot be read, or the items are not those of the record.
    """
    record = read_record(folder / RECORD_NAME)
    metrics = {task.task: tuple(task.correct) for task in record.tasks if tasks is None or task.task in tasks}
    path = folder / ITEMS_NAME
    _check_digest(path, record.files.get(ITEMS_NAME))
    results = []
    for item in read_items(path):
        for metric in metrics.get(item.task, ()):
            if not item.failed and metric not in item.scores:
                raise EvaluationError(
                    f"{folder.name}/{ITEMS_NAME} has no {metric} for item {item.item_id!r} of {item.task}: run again"
                )
            results.append(
                ItemResult(
                    task=item.task,
                    item_id=item.item_id,
                    correct=None if item.failed else item.scores[metric] == 1,
                    answer=item.answer,
                    cluster=item.cluster,
                    unreadable=item.unreadable,
                    truncated=item.truncated,
                    metric=metric,
                )
            )
    return results


def _check_digest(path: Path, recorded: str | None) -> None:
    if recorded is None:
        return
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EvaluationError(f"{path.parent.name}/{path.name} cannot be read ({error.strerror}): run again") from None
    if found != recorded:
        raise EvaluationError(
            f"{path.parent.name}/{path.name} was changed after it was recorded (SHA-256 {found[:8]}, not "
            f"{recorded[:8]}): put it back or run again"
        )

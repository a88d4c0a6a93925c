"""Two models compared item by item, after Miller 2024, "Adding Error Bars to Evals" (arXiv:2411.00640).

Only items that both answered count: those one side lacks, and those whose request failed, are counted and left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from evals.errors import EvaluationError
from evals.statistics import (
    Proportion,
    clustered_proportion,
    detectable_difference,
    holm,
    is_constant,
    paired_difference,
    wilson,
)

COLUMNS = (
    *("task", "metric", "n", "clusters"),
    *("score_a", "score_a_low", "score_a_high", "score_b", "score_b_low", "score_b_high"),
    *("difference", "difference_low", "difference_high", "only_a", "only_b", "p_value", "p_adjusted", "detectable"),
    *("missing_a", "missing_b", "failed_a", "failed_b"),
    *("unreadable_a", "unreadable_b", "truncated_a", "truncated_b", "warning"),
)
DIFFERING_COLUMNS = ("task", "metric", "item_id", "right", "answer_a", "answer_b")


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What one model made of one item.

    Attributes:
        task, metric, item_id: together they name the item's score; both sides must name it alike.
        correct: `None` where the request failed.
        answer: as the task read it; empty where it could not be read.
        cluster: what the item shares with others of its task, such as MMLU's subject; `None` where items are
            independent.
        unreadable, truncated: no answer could be read; it reached the token limit before it ended.
    """

    task: str
    item_id: str
    correct: bool | None
    answer: str
    cluster: str | None = None
    unreadable: bool = False
    truncated: bool = False
    metric: str = "score"


_Board: TypeAlias = tuple[str, str]  # task, metric
_Side: TypeAlias = dict[str, ItemResult]  # by item_id


def compare(a: Iterable[ItemResult], b: Iterable[ItemResult]) -> pd.DataFrame:
    """One row per task and metric with the columns `COLUMNS`, in the order of A and then B.

    Scores, differences (A minus B), their 95 % bounds and `detectable` are fractions of 1, NaN where n is 0; where
    items share clusters the intervals are clustered and `clusters` counts them, else it is 0. `p_value` is McNemar's
    exact one and `p_adjusted` Holm's over the whole table. `detectable` is the difference found with 80 % power at
    the share of discordant items seen here. `missing_a` are items only B has; `failed_a` all of A's that failed;
    `unreadable_a` and `truncated_a` are among the n.

    Raises:
        EvaluationError: an item stands twice on one side, is in different clusters on the two, or only some of a
            task's items have a cluster.
    """
    sides_a, sides_b = _sides(a, "A"), _sides(b, "B")
    rows = [
        _row(board, sides_a.get(board, {}), sides_b.get(board, {})) for board in dict.fromkeys([*sides_a, *sides_b])
    ]
    for row, p_adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = p_adjusted
    return pd.DataFrame(rows, columns=list(COLUMNS))


def differing_items(a: Iterable[ItemResult], b: Iterable[ItemResult]) -> pd.DataFrame:
    """The items only one of the two got right, with the columns `DIFFERING_COLUMNS`, in A's order.

    `right` is "A" or "B".

    Raises:
        EvaluationError: an item stands twice on one side.
    """
    sides_a, sides_b = _sides(a, "A"), _sides(b, "B")
    rows = [
        (*board, ours.item_id, "A" if ours.correct else "B", ours.answer, theirs.answer)
        for board, side in sides_a.items()
        for ours, theirs in _answered(side, sides_b.get(board, {}))
        if ours.correct != theirs.correct
    ]
    return pd.DataFrame(rows, columns=list(DIFFERING_COLUMNS))


def _sides(items: Iterable[ItemResult], name: str) -> dict[_Board, _Side]:
    sides: dict[_Board, _Side] = {}
    for item in items:
        side = sides.setdefault((item.task, item.metric), {})
        if item.item_id in side:
            raise EvaluationError(
                f"item {item.item_id!r} of {item.task} stands twice in {name}: each item has one {item.metric}"
            )
        side[item.item_id] = item
    return sides


def _answered(a: _Side, b: _Side) -> list[tuple[ItemResult, ItemResult]]:
    """The items both answered, in A's order."""
    pairs = ((ours, b[item_id]) for item_id, ours in a.items() if item_id in b)
    return [(ours, theirs) for ours, theirs in pairs if ours.correct is not None and theirs.correct is not None]


def _row(board: _Board, a: _Side, b: _Side) -> dict[str, Any]:
    pairs = _answered(a, b)
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    clusters = _clusters(board[0], pairs)
    right_a, right_b = [item.correct is True for item in ours], [item.correct is True for item in theirs]
    score_a, score_b = _score(right_a, clusters), _score(right_b, clusters)
    paired = paired_difference(right_a, right_b, clusters)
    return {
        **dict(zip(("task", "metric"), board, strict=True)),
        "n": paired.n,
        "clusters": 0 if clusters is None else len(set(clusters)),
        **{"score_a": score_a.value, "score_a_low": score_a.low, "score_a_high": score_a.high},
        **{"score_b": score_b.value, "score_b_low": score_b.low, "score_b_high": score_b.high},
        **{"difference": paired.difference, "difference_low": paired.low, "difference_high": paired.high},
        **{"only_a": paired.only_a, "only_b": paired.only_b, "p_value": paired.p_value},
        "detectable": detectable_difference(paired.n, paired.discordant_share) if paired.n else math.nan,
        **{"missing_a": len(b.keys() - a.keys()), "missing_b": len(a.keys() - b.keys())},
        **{"failed_a": _count_failed(a), "failed_b": _count_failed(b)},
        "unreadable_a": sum(item.unreadable for item in ours),
        "unreadable_b": sum(item.unreadable for item in theirs),
        "truncated_a": sum(item.truncated for item in ours),
        "truncated_b": sum(item.truncated for item in theirs),
        "warning": "; ".join([*_constant(ours, "A"), *_constant(theirs, "B")]),
    }


def _clusters(task: str, pairs: Sequence[tuple[ItemResult, ItemResult]]) -> list[str] | None:
    """The clusters of the pairs, or `None` where items are independent."""
    for ours, theirs in pairs:
        if ours.cluster != theirs.cluster:
            raise EvaluationError(
                f"item {ours.item_id!r} of {task} is in {ours.cluster!r} in A but in {theirs.cluster!r} in B: compare "
                "runs over the same items"
            )
    clusters = [ours.cluster for ours, _ in pairs]
    given = [cluster for cluster in clusters if cluster is not None]
    if given and len(given) < len(clusters):
        raise EvaluationError(f"{len(given)} of {len(clusters)} items of {task} have a cluster: all or none must")
    return given or None


def _score(right: Sequence[bool], clusters: Sequence[str] | None) -> Proportion:
    return wilson(sum(right), len(right)) if clusters is None else clustered_proportion(right, clusters)


def _count_failed(side: _Side) -> int:
    return sum(item.correct is None for item in side.values())


def _constant(items: Sequence[ItemResult], name: str) -> list[str]:
    common = Counter(item.answer for item in items).most_common(1)
    if common and is_constant(common[0][1] / len(items), len(items)):
        return [f"every answer of {name} is {common[0][0] or 'unreadable'}"]
    return []

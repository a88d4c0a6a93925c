"""Which shot an item gets: fixed by its id, whatever the order of the items or their number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Row
from evals.errors import DataError

HELD_OUT_SHOTS = 16  # rows of a file without a shot file that become its pool: 1 % of ARC-Easy's test set


class ShotPool:
    """The rows from which shots are drawn, by what they must share with the item."""

    def __init__(self, benchmark: Benchmark, rows: Iterable[Row]) -> None:
        self._benchmark = benchmark
        self._by_group: dict[Any, list[Row]] = {}
        for row in sorted(rows, key=lambda row: str(row["id"])):
            self._by_group.setdefault(benchmark.group(row), []).append(row)

    def choose(self, item: Row, *, seed: int) -> Row:
        """The shot of one item: the pool row at a place given by a SHA-256 of the seed and the item's id.

        Rows with the item's own id or text cannot be chosen.

        Raises:
            DataError: no row is left to choose.
        """
        text = self._benchmark.text_column
        candidates = self._by_group.get(self._benchmark.group(item), [])
        first = _hash(seed, item["id"])
        for step in range(len(candidates)):
            row = candidates[(first + step) % len(candidates)]
            if row["id"] != item["id"] and row[text] != item[text]:
                return row
        same = self._benchmark.same_column
        where = f" of {same} {item[same]!r}" if same else ""
        raise DataError(f"item {item['id']!r} has no shot: the pool holds no other row{where}")


def hold_out(benchmark: Benchmark, rows: list[Row], path: Path) -> tuple[list[Row], list[Row]]:
    """Items, and the fixed few that become shots: one of each group, or 16. The seed is not used here: every run scores
    the same items."""
    groups: dict[Any, list[Row]] = {}
    for row in sorted(rows, key=lambda row: _hash("shots", row["id"])):
        groups.setdefault(benchmark.group(row), []).append(row)
    number = 1 if benchmark.same_column else HELD_OUT_SHOTS
    held_out = {row["id"] for group in groups.values() for row in group[:number]}
    if len(held_out) == len(rows):
        group = f" of each {benchmark.same_column}" if benchmark.same_column else ""
        raise DataError(
            f"{path.name} has {len(rows)} rows and there is no {path.stem}_shots.jsonl: give a shot file, or more than "
            f"{number} rows{group}, of which {number} become the shots"
        )
    return (
        [row for row in rows if row["id"] not in held_out],
        [row for row in rows if row["id"] in held_out],
    )


def _hash(seed: int | str, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest())

"""Which scores may stand side by side: those over the same items, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evals.report.entries import Configuration, Entry
from evals.suites import ADEPT, LIKELIHOOD

SUITES = {"adept": ADEPT, "likelihood": LIKELIHOOD}
OTHER = "other"  # tasks of no suite

Column = tuple[str, str, str]  # see Entry.column


@dataclass
class Board:
    """Runs of one suite over one source of items with one seed. In a column all items are the same.

    Attributes:
        number: 1 for the newest of the boards with the same suite, data and seed, which differ in items.
        columns: by task, in the suite's order. rows: by configuration and task, in the configurations' order.
    """

    suite: str
    data: tuple[str, str]
    seed: int
    number: int
    columns: dict[str, Column] = field(default_factory=dict)
    rows: dict[Configuration, dict[str, Entry]] = field(default_factory=dict)

    @property
    def is_demo(self) -> bool:
        """Whether the items are the demonstration world's."""
        return any(entry.is_demo for entry in self.entries)

    @property
    def entries(self) -> list[Entry]:
        """Row by row."""
        return [entry for row in self.rows.values() for entry in row.values()]

    def of_task(self, task: str) -> list[Entry]:
        """One column, in the rows' order."""
        return [row[task] for row in self.rows.values() if task in row]

    def takes(self, entries: Sequence[Entry]) -> bool:
        """Whether a run's entries fit: no column would mix items, and no cell is taken."""
        return all(
            self.columns.get(entry.task.task, entry.column) == entry.column
            and entry.task.task not in self.rows.get(entry.configuration, {})
            for entry in entries
        )

    def add(self, entries: Sequence[Entry]) -> None:
        """Put a run's entries in."""
        for entry in entries:
            self.columns[entry.task.task] = entry.column
            self.rows.setdefault(entry.configuration, {})[entry.task.task] = entry


def suite_of(task: str) -> str:
    """The suite a task belongs to, `other` for none."""
    return next((suite for suite, tasks in SUITES.items() if task in tasks), OTHER)


def make_boards(entries: Iterable[Entry]) -> list[Board]:
    """The boards of these entries: by suite, then the Hub before folders, then by seed, the newest items first.

    The newest run opens a board; each older one goes to the first board it fits in as a whole, so that what was
    measured over one set of items stays together.
    """
    runs: dict[tuple[str, tuple[str, str], int, str, str], list[Entry]] = {}
    for entry in entries:
        key = (suite_of(entry.task.task), entry.data, entry.seed, entry.run.started, entry.run.run)
        runs.setdefault(key, []).append(entry)
    boards: dict[tuple[str, tuple[str, str], int], list[Board]] = {}
    for suite, data, seed, *when in sorted(runs, key=lambda key: key[3:], reverse=True):
        mine = runs[suite, data, seed, when[0], when[1]]
        same = boards.setdefault((suite, data, seed), [])
        board = next((board for board in same if board.takes(mine)), None)
        if board is None:
            board = Board(suite, data, seed, len(same) + 1)
            same.append(board)
        board.add(mine)
    order = [*SUITES, OTHER]
    found = [
        board
        for key in sorted(boards, key=lambda key: (order.index(key[0]), _data_order(key[1]), key[2]))
        for board in boards[key]
    ]
    for board in found:
        _put_in_order(board)
    return found


def _data_order(data: tuple[str, str]) -> tuple[bool, tuple[str, str]]:
    return data[0] != "hub", data


def _put_in_order(board: Board) -> None:
    tasks = [task for task in SUITES.get(board.suite, ()) if task in board.columns]
    tasks += sorted(set(board.columns) - set(tasks))
    board.columns = {task: board.columns[task] for task in tasks}
    board.rows = {
        row: {task: board.rows[row][task] for task in tasks if task in board.rows[row]}
        for row in sorted(board.rows, key=lambda row: row.sort_key)
    }

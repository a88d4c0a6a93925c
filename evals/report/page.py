"""The page, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.comparison import ItemResult
from evals.record import RunRecord
from evals.reference_figures import ReferenceFigure
from evals.report.blocks import Block, Heading, Text
from evals.report.boards import Board, make_boards
from evals.report.details import detail_blocks
from evals.report.entries import entries_of, shown
from evals.report.gpu import GpuResults, gpu_blocks
from evals.report.leaderboard import matrix_blocks
from evals.report.pairs import Items, pair_blocks
from evals.report.partial import partial_blocks
from evals.report.plots import plots
from evals.report.published import published_blocks
from evals.report.rules import rules_blocks
from evals.report.speed import speed_blocks

INTRODUCTION = """\
Written by `make results` (`python -m evals report`) from the records in `runs/*/run.json`; change nothing here by hand.
[README.md](README.md) and [index.html](index.html) say the same, the second with plots and tables that can be sorted
and filtered; [leaderboard.csv](leaderboard.csv), [leaderboard.tex](leaderboard.tex) and
[leaderboard.json](leaderboard.json), which the app reads, hold the scores. Each run's folder has its items with prompt,
answer and verdict (`items.jsonl`), and lm-eval's own results and samples."""

NOT_THE_BENCHMARK = (
    "Items invented for this project, which share a benchmark's form and nothing else: these runs show that everything "
    "works. **This is not the benchmark**, and says nothing about it."
)


def no_items(record: RunRecord, tasks: frozenset[str]) -> Sequence[ItemResult] | None:
    """No items at hand: nothing is compared item by item."""
    return None


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a page shows.

    Attributes:
        records: of runs. items: gives a run's items. figures: published ones. measurements: sections on other
            measurements, in Markdown, each beginning with its heading of level 2. gpu: what was measured on one, if
            anybody has looked.
    """

    records: tuple[RunRecord, ...]
    items: Items = no_items
    figures: tuple[ReferenceFigure, ...] = ()
    measurements: tuple[str, ...] = ()
    gpu: GpuResults | None = None


def page(sources: Sources) -> list[Block]:
    """The whole page.

    Raises:
        EvaluationError: items cannot be read or do not fit.
    """
    entries = entries_of(sources.records)
    boards = make_boards(shown(entries))
    real = [board for board in boards if not board.is_demo]
    demo = [board for board in boards if board.is_demo]
    blocks: list[Block] = [Heading(1, "Results"), Text(INTRODUCTION), Heading(2, "Leaderboard")]
    blocks += _matrices(real, sources.figures)
    if not real:
        blocks.append(Text("No complete run over a benchmark's own items is recorded."))
    blocks += published_blocks(sources.figures)
    blocks += _comparisons(real, sources.items)
    if real:
        blocks += [Heading(2, "Tasks in detail"), *(block for board in real for block in detail_blocks(board))]
    blocks += [Heading(2, "Demonstration world"), Text(NOT_THE_BENCHMARK)]
    blocks += _matrices(demo, ())
    blocks += [block for board in demo for block in pair_blocks(board, sources.items)]
    blocks += [block for board in demo for block in detail_blocks(board)]
    if not demo:
        blocks.append(Text("No complete run is recorded."))
    blocks += speed_blocks(shown(entries))
    if sources.gpu is not None:
        blocks += gpu_blocks(sources.gpu)
    blocks += partial_blocks(entries)
    for section in sources.measurements:
        title, _, rest = section.removeprefix("## ").partition("\n")
        blocks += [Heading(2, title), Text(rest.strip())]
    return [*blocks, *rules_blocks()]


def _matrices(boards: Sequence[Board], figures: Sequence[ReferenceFigure]) -> list[Block]:
    return [block for board in boards for block in [*matrix_blocks(board), plots(board, figures)]]


def _comparisons(boards: Sequence[Board], items: Items) -> list[Block]:
    found = [block for board in boards for block in pair_blocks(board, items)]
    return [Heading(2, "Comparisons"), *found] if found else []

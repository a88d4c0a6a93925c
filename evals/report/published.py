"""Figures that others published. They were not measured here, so they never share a table with scores that were."""

from __future__ import annotations

from collections.abc import Sequence

from evals.reference_figures import TASKS, ReferenceFigure
from evals.report.blocks import Block, Cell, Heading, Text, make_table, number_cell, text_cell
from evals.report.labels import benchmark_name, yes_or_no

NO_VALUE = "no published value"
INTRODUCTION = (
    "*Not measured here.* Each figure is what its source says, without an interval or counts, in italics. Only those "
    'of "the same protocol" (1-shot, by generating text) may be held against the suite `adept`; the others are here '
    f'for orientation. "{NO_VALUE}" means that no source that could be read gives one; values are typed into '
    "`evals/data/reference_figures.yaml`, each with its source."
)


def published_blocks(figures: Sequence[ReferenceFigure]) -> list[Block]:
    """The announcement's comparison as far as it can be read, and every figure with its source."""
    comparable = [figure for figure in figures if figure.comparable]
    matrix = [
        {"model": Cell(model)} | {benchmark_name(task): _of(comparable, model, task) for task in TASKS}
        for model in dict.fromkeys(figure.model for figure in comparable)
    ]
    valued = [figure for figure in figures if figure.value is not None]
    rows = [
        {
            "model": Cell(figure.model),
            "benchmark": Cell(benchmark_name(figure.task)),
            "published %": number_cell(f"{figure.value:g}", figure.value, italic=True),
            "shots": number_cell("not said" if figure.shots is None else str(figure.shots), figure.shots),
            "protocol": Cell(figure.protocol),
            "same protocol": text_cell(yes_or_no(figure.comparable)),
            "source": text_cell(figure.source, href=figure.url),
        }
        for figure in valued
    ]
    blocks: list[Block] = [Heading(2, "Published figures"), Text(INTRODUCTION)]
    for title, table in (("Same protocol as the suite `adept`", matrix), ("All, with their sources", rows)):
        if table:
            models = [row["model"].text for row in table]
            caption = f"Published elsewhere, not measured here: {title[0].lower()}{title[1:].replace('`', '')}, in %"
            blocks += [Heading(3, title), make_table(caption, table, models=models, published=True)]
    return blocks


def _of(figures: Sequence[ReferenceFigure], model: str, task: str) -> Cell:
    values = [
        figure.value for figure in figures if figure.model == model and figure.task == task and figure.value is not None
    ]
    if not values:
        return Cell(NO_VALUE, numeric=True)
    return number_cell(" or ".join(f"{value:g}" for value in values), values[0], italic=True)

"""Dots and whiskers: each benchmark of a board as a figure of lanes, in HTML with inline SVG.

A measured score is a filled dot with its interval as whiskers. A published figure is a hollow diamond in lanes of its
own below, without whiskers. Widths are percentages, so that texts keep their size on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from evals.reference_figures import ReferenceFigure
from evals.report.blocks import Plots
from evals.report.boards import Board
from evals.report.entries import Configuration, Entry
from evals.report.labels import RowLabel, data_name, row_labels
from evals.report.leaderboard import MARK, board_title, column_name, warning_text
from evals.report.numbers import bounds, percent
from evals.scores import task_scores

TICKS = (0, 25, 50, 75, 100)
LEGEND = (
    '<p class="legend"><span><svg class="key" aria-hidden="true"><line class="whisker" x1="2" x2="34" y1="8" y2="8"/>'
    '<circle class="dot" cx="18" cy="8" r="5"/></svg> measured here, with its 95 % interval</span> '
    '<span><svg class="key" aria-hidden="true"><line class="chance" x1="18" x2="18" y1="0" y2="16"/></svg> '
    "chance</span>"
)
LEGEND_PUBLISHED = (
    '<span><svg class="key" aria-hidden="true"><path class="diamond" d="M18 2 24 8 18 14 12 8Z"/></svg> '
    "published elsewhere, not measured here</span>"
)


def plots(board: Board, figures: Sequence[ReferenceFigure]) -> Plots:
    """The figures of a board; `figures` only where its items are the benchmarks' own."""
    labels = row_labels(board.rows)
    drawn = []
    published = False
    for task in board.columns:
        benchmark = board.of_task(task)[0].task.benchmark
        mine = [figure for figure in figures if figure.task == benchmark and figure.value is not None]
        published = published or bool(mine)
        drawn.append(_figure(board, task, labels, mine))
    legend = f"{LEGEND} {LEGEND_PUBLISHED if published else ''}".rstrip() + "</p>"
    title = escape(f"Plots of {board_title(board)}")
    return Plots(f'<div class="plots" role="group" aria-label="{title}">\n' + "\n".join(drawn) + f"\n</div>\n{legend}")


def _figure(
    board: Board, task: str, labels: Mapping[Configuration, RowLabel], figures: Sequence[ReferenceFigure]
) -> str:
    entries = board.of_task(task)
    first = entries[0].task
    metric = next(iter(first.correct))
    caption = f"{escape(column_name(board, task))} <small>{escape(metric)} in %, n = {first.num_available}</small>"
    lines = [f'<figure class="plot">\n<figcaption>{caption}</figcaption>']
    lines += [_measured_lane(entry, labels[entry.configuration]) for entry in entries]
    lines.append(_axis())
    if figures:
        lines.append('<p class="lane-title">Published elsewhere, not measured here</p>')
        lines += [_published_lane(figure) for figure in figures]
    return "\n".join([*lines, "</figure>"])


def _measured_lane(entry: Entry, label: RowLabel) -> str:
    score = next(iter(task_scores(entry.task).values()))
    marks = _grid()
    if entry.task.chance is not None:
        at = _at(entry.task.chance)
        marks += f'<line class="chance" x1="{at}" x2="{at}" y1="0" y2="100%"/>'
    if score.low == score.low:
        low, high = _at(score.low), _at(score.high)
        marks += f'<line class="whisker" x1="{low}" x2="{high}" y1="50%" y2="50%"/>'
        for at in (low, high):
            marks += f'<svg class="at" x="{at}" y="50%"><line class="whisker" y1="-5" y2="5"/></svg>'
    if score.value == score.value:
        marks += f'<circle class="dot" cx="{_at(score.value)}" cy="50%" r="5"/>'
    mark = f" {MARK}" if warning_text(entry) else ""
    said = f"{percent(score.value)} %, n = {score.n}"
    if score.low == score.low:
        said += f", 95 % interval {percent(score.low)} to {percent(score.high)}"
    return _lane("measured", label, marks, said, f"{percent(score.value)} {bounds(score)}{mark}", entry)


def _published_lane(figure: ReferenceFigure) -> str:
    value = figure.value or 0.0
    at = _at(value / 100)
    marks = f'{_grid()}<svg class="at" x="{at}" y="50%"><path class="diamond" d="M0-6 6 0 0 6-6 0Z"/></svg>'
    protocol = "same protocol" if figure.comparable else figure.protocol
    return _lane("published", RowLabel(figure.model, protocol), marks, f"{value:g} %", f"{value:g}", None)


def _lane(kind: str, label: RowLabel, marks: str, said: str, value: str, entry: Entry | None) -> str:
    who = escape(label.model) + (f" <small>{escape(label.told)}</small>" if label.told else "")
    source = "" if entry is None else f' data-source="{escape(data_name(entry.data))}"'
    return (
        f'<div class="lane {kind}" data-model="{escape(label.model)}"{source}><span class="who">{who}</span>'
        f'<span class="bar"><svg role="img" aria-label="{escape(said)}">{marks}</svg></span>'
        f'<span class="value" aria-hidden="true">{escape(value)}</span></div>'
    )


def _axis() -> str:
    ticks = "".join(f'<span style="left:{tick}%">{tick}</span>' for tick in TICKS)
    return f'<div class="lane axis" aria-hidden="true"><span class="who"></span><div class="ticks">{ticks}</div></div>'


def _grid() -> str:
    return "".join(f'<line class="grid" x1="{tick}%" x2="{tick}%" y1="0" y2="100%"/>' for tick in TICKS)


def _at(share: float) -> str:
    return f"{100 * share:.2f}%"

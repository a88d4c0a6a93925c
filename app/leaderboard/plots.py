"""Dots with whiskers, one figure a benchmark: measured scores with their 95 % intervals, published figures as diamonds.

Inline SVG in lanes of HTML: positions are percentages, so that texts keep their size on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.leaderboard.scores import Published, Score

TICKS = (0, 25, 50, 75, 100)
LEGEND = (
    '<p class="legend"><span><svg aria-hidden="true"><line class="whisker" x1="2" x2="34" y1="8" y2="8"/>'
    '<circle cx="18" cy="8" r="5"/></svg> measured here, with its 95 % interval</span> <span><svg aria-hidden="true">'
    '<line class="chance" x1="18" x2="18" y1="0" y2="16"/></svg> guessing</span>'
)
LEGEND_PUBLISHED = (
    ' <span><svg aria-hidden="true"><path d="M18 2 24 8 18 14 12 8Z"/></svg> published elsewhere, not measured here'
    "</span>"
)


def plots_html(scores: Sequence[Score], published: Sequence[Published]) -> str:
    """The figures of one board, each of a task's first metric."""
    figures = []
    has_published = False
    for column in dict.fromkeys(score.column for score in scores):
        mine = [score for score in scores if score.column == column]
        mine = [score for score in mine if score.metric == mine[0].metric]
        others = [figure for figure in published if figure.benchmark == column]
        has_published = has_published or bool(others)
        figures.append(_figure(mine, others))
    return f'<div class="plots">{"".join(figures)}</div>{LEGEND}{LEGEND_PUBLISHED if has_published else ""}</p>'


def _figure(scores: Sequence[Score], published: Sequence[Published]) -> str:
    first = scores[0]
    lanes = "".join(map(_measured, scores)) + _axis()
    if published:
        lanes += '<p class="lane-title">Published elsewhere, not measured here</p>' + "".join(
            map(_published, published)
        )
    return (
        f"<figure><figcaption>{escape(first.column)} <small>{escape(first.metric)} in %, n = {first.n:,}</small>"
        f"</figcaption>{lanes}</figure>"
    )


def _measured(score: Score) -> str:
    marks = _grid()
    if score.chance is not None:
        marks += f'<line class="chance" x1="{_at(score.chance)}" x2="{_at(score.chance)}" y1="0" y2="100%"/>'
    said = "no score" if score.score is None else f"{100 * score.score:.1f} %, n = {score.n}"
    value = "–"
    if score.low is not None and score.high is not None:
        low, high = _at(score.low), _at(score.high)
        marks += f'<line class="whisker" x1="{low}" x2="{high}" y1="50%" y2="50%"/>'
        marks += "".join(f'<line class="whisker" x1="{at}" x2="{at}" y1="25%" y2="75%"/>' for at in (low, high))
        said += f", 95 % interval {100 * score.low:.1f} to {100 * score.high:.1f}"
    if score.score is not None:
        marks += f'<circle cx="{_at(score.score)}" cy="50%" r="5"/>'
        value = f"{100 * score.score:.1f}"
    return _lane(score.model, score.told, marks, said, value)


def _published(figure: Published) -> str:
    marks = f'{_grid()}<svg class="at" x="{_at(figure.value / 100)}" y="50%"><path d="M0-6 6 0 0 6-6 0Z"/></svg>'
    told = "same protocol" if figure.comparable else figure.protocol
    return _lane(figure.model, told, marks, f"{figure.value:g} %, published", f"{figure.value:g}")


def _lane(model: str, told: str, marks: str, said: str, value: str) -> str:
    who = escape(model) + (f" <small>{escape(told)}</small>" if told else "")
    return (
        f'<div class="lane"><span class="who">{who}</span><svg role="img" aria-label="{escape(said)}">{marks}</svg>'
        f'<span class="value" aria-hidden="true">{escape(value)}</span></div>'
    )


def _axis() -> str:
    ticks = "".join(f'<span style="left:{tick}%">{tick}</span>' for tick in TICKS)
    return f'<div class="lane axis" aria-hidden="true"><span></span><div class="ticks">{ticks}</div><span></span></div>'


def _grid() -> str:
    return "".join(f'<line class="grid" x1="{tick}%" x2="{tick}%" y1="0" y2="100%"/>' for tick in TICKS)


def _at(share: float) -> str:
    return f"{100 * share:.2f}%"

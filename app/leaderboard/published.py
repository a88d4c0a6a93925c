"""Published figures, each with what was measured here for the same model and benchmark, if anything was."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.leaderboard.scores import Published, Score

INTRODUCTION = (
    "Each figure is what its source says. Only those of the same protocol (1-shot, by generating text) may be held "
    "against the suite <code>adept</code>; the others are here for orientation."
)
NOT_MEASURED = "not measured"
_COLUMNS = ("Model", "Benchmark", "Published %", "Measured here %", "Shots", "Protocol", "Same protocol", "Source")


def published_html(figures: Sequence[Published], scores: Sequence[Score]) -> str:
    """The table."""
    if not figures:
        return "<p>No published figure fits what is chosen.</p>"
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    rows = "".join(_row(figure, measured(figure, scores)) for figure in figures)
    return (
        f'<p>{INTRODUCTION}</p><div class="scroll" tabindex="0" role="region" aria-label="Published figures"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def measured(figure: Published, scores: Sequence[Score]) -> list[Score]:
    """What was measured here over the benchmark's own items for the same model; of a figure of the suite `adept`'s
    protocol only that suite's scores."""
    return [
        score
        for score in scores
        if not score.is_demo
        and score.benchmark == figure.task
        and _model(score.model) == _model(figure.model)
        and (score.suite == "adept" or not figure.comparable)
    ]


def _model(name: str) -> str:
    """Without what the Hub's names add."""
    return name.casefold().removesuffix("-hf")


def _row(figure: Published, scores: Sequence[Score]) -> str:
    own = "<br>".join(
        escape(f"{100 * score.score:.1f} ({score.setting}, {score.suite})")
        for score in scores
        if score.score is not None
    )
    source = escape(figure.source or "")
    if figure.url is not None and figure.url.startswith("https://"):
        source = f'<a href="{escape(figure.url)}" rel="noreferrer noopener" target="_blank">{source}</a>'
    return (
        f'<tr><th scope="row">{escape(figure.model)}</th><td>{escape(figure.benchmark)}</td>'
        f"<td><em>{figure.value:g}</em></td><td>{own or NOT_MEASURED}</td>"
        f"<td>{'not said' if figure.shots is None else figure.shots}</td><td>{escape(figure.protocol)}</td>"
        f"<td>{'yes' if figure.comparable else 'no'}</td><td>{source}</td></tr>"
    )

"""The leaderboard as HTML: a table for each board, in which a score is the link to its items, then its warnings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from app.leaderboard.plots import plots_html
from app.leaderboard.scores import Published, Score
from app.links import samples_of

MARK = "†"
NOT_THE_BENCHMARK = (
    "Items invented for this project, which share a benchmark's form and nothing else. <strong>This is not the "
    "benchmark</strong>, and says nothing about it."
)


def boards_html(scores: Sequence[Score], published: Sequence[Published]) -> str:
    """Every board of these scores, in their order."""
    if not scores:
        return "<p>No measured score fits what is chosen.</p>"
    boards = dict.fromkeys(score.board for score in scores)
    return "".join(_board([score for score in scores if score.board == board], published) for board in boards)


def percent(share: float | None) -> str:
    """A share of 1 with one digit; a dash where it is undefined."""
    return "–" if share is None else f"{100 * share:.1f}"


def interval(score: Score) -> str:
    """The ends of the 95 % interval; empty where they are undefined."""
    return "" if score.low is None or score.high is None else f"[{percent(score.low)}, {percent(score.high)}]"


def column_title(score: Score, scores: Iterable[Score]) -> str:
    """The benchmark, with the metric where a task has several."""
    metrics = {other.metric for other in scores if other.column == score.column}
    return f"{score.column} {score.metric}" if len(metrics) > 1 else score.column


def _board(scores: Sequence[Score], published: Sequence[Published]) -> str:
    first = scores[0]
    note = f'<p class="notice" role="note">{NOT_THE_BENCHMARK}</p>' if first.is_demo else ""
    own = [] if first.is_demo else [figure for figure in published if figure.comparable or first.suite != "adept"]
    return (
        f'<section class="board"><h2>{escape(first.board)}</h2>{note}{_table(scores)}{_warnings(scores)}'
        f"{_notices(scores)}{plots_html(scores, own)}</section>"
    )


def _table(scores: Sequence[Score]) -> str:
    columns: dict[tuple[str, str], str] = {}
    rows: dict[tuple[str, str], dict[tuple[str, str], Score]] = {}
    for score in scores:
        column = (score.column, score.metric)
        columns[column] = f"{escape(column_title(score, scores))}<br><small>n = {score.n:,}</small>"
        rows.setdefault((score.label, score.setting), {})[column] = score
    head = "".join(f'<th scope="col">{title}</th>' for title in columns.values())
    body = "".join(
        f'<tr><th scope="row">{escape(next(iter(cells.values())).model)}<br><small>{escape(setting)}</small></th>'
        + "".join(_cell(cells.get(column)) for column in columns)
        + "</tr>"
        for (_, setting), cells in rows.items()
    )
    title = escape(f"{scores[0].board}: scores in %")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><caption>Score in % with its 95 % '
        f"interval; a score leads to its items.</caption><thead><tr><th>Model</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(score: Score | None) -> str:
    if score is None:
        return "<td>–</td>"
    value = percent(score.score)
    if score.has_items:
        said = escape(f"{value} %, items of {score.label} in {score.column}")
        value = f'<a href="{escape(samples_of(score.run, task=score.task))}" aria-label="{said}">{value}</a>'
    mark = f' <span title="{escape("; ".join(score.warnings))}">{MARK}</span>' if score.warnings else ""
    return f"<td>{value}{mark}<br><small>{interval(score)}</small></td>"


def _warnings(scores: Sequence[Score]) -> str:
    found = {f"{score.column}, {score.label}: {text}": None for score in scores for text in score.warnings}
    if not found:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in found)
    title = f"{MARK} {len(found)} {'warning' if len(found) == 1 else 'warnings'}"
    return f"<details open><summary>{title}</summary><ul>{items}</ul></details>"


def _notices(scores: Sequence[Score]) -> str:
    found = {f"{score.model}: {score.notice}": None for score in scores if score.notice}
    items = "".join(f"<li>{escape(text)}</li>" for text in found)
    return (
        f"<details><summary>What the models say about themselves</summary><ul>{items}</ul></details>" if found else ""
    )

"""Items as HTML: a line each that opens on everything that was recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from app.samples.item_index import Item
from app.samples.query import PAGE_SIZE, Page, Query, is_right, metric_of
from app.samples.runs import Run

LONGEST_SHORT = 60  # characters of an answer in an item's own line


def page_html(page: Page, query: Query, runs: Mapping[str, Run]) -> str:
    """The items of a page."""
    run = runs[query.run]
    note = "".join(
        f"<p>{escape(task)} is not compared: the two runs have other items.</p>" for task in page.not_compared
    )
    if not page.items:
        return f"{note}<p>No item fits.</p>"
    return note + "".join(_item(item, other, metric_of(run, item.task, query.metric)) for item, other in page.items)


def count_text(page: Page) -> str:
    """How many items there are and which are shown."""
    if not page.num_fitting:
        return f"0 of {page.num_items:,} items"
    first = (page.page - 1) * PAGE_SIZE + 1
    last = min(page.page * PAGE_SIZE, page.num_fitting)
    return f"{first:,} to {last:,} of {page.num_fitting:,} that fit, of {page.num_items:,} items"


def verdict(item: Item, metric: str) -> str:
    """In a word or two: right, wrong, or why neither."""
    if item.failed:
        return "failed"
    found = is_right(item.scores, metric)
    if found is None:
        return "not scored"
    words = "right" if found else "wrong"
    if item.unreadable:
        words += ", unreadable"
    return f"{words}, truncated" if item.truncated else words


def _item(item: Item, other: Item | None, metric: str) -> str:
    verdicts = _badge("A " if other else "", item, metric) + (_badge("B ", other, metric) if other else "")
    sections = _text("Prompt", item.prompt)
    if other is not None and other.prompt != item.prompt:
        sections += _text("Prompt of B", other.prompt)
    if other is None:
        sections += _answer("", item)
    else:
        sections += f'<div class="pair"><div>{_answer(" of A", item)}</div><div>{_answer(" of B", other)}</div></div>'
    which = f'<span class="id">{escape(item.task)} · {escape(item.item_id)}</span>'
    reads = f"A read {_short(item.answer)}, B read {_short(other.answer)}" if other else f"read {_short(item.answer)}"
    short = escape(f"{reads}, right is {_short(item.gold)}")
    return (
        f'<details class="item"><summary>{verdicts} {which} <span class="short">{short}</span></summary>'
        f"{sections}</details>"
    )


def _badge(whose: str, item: Item, metric: str) -> str:
    words = verdict(item, metric)
    sign = "✓" if words.startswith("right") else "✗" if words.startswith("wrong") else "–"
    return f'<span class="verdict {words.split(",")[0].replace(" ", "-")}">{sign} {whose}{words}</span> '


def _answer(whose: str, item: Item) -> str:
    facts = {
        "Right answer": item.gold,
        "Read as": item.answer or "nothing: it could not be read",
        "Scores": ", ".join(f"{name} {value:g}" for name, value in item.scores.items()) or "none",
        "Group": item.cluster,
        "Failure": item.error,
        "Sandbox": item.outcome,
        "Sandbox's message": item.message,
        "Suspicions": ", ".join(item.suspicions),
    }
    shown = "".join(f"<dt>{name}</dt><dd><pre>{_lines(value)}</pre></dd>" for name, value in facts.items() if value)
    return f"{_text(f'Output{whose}', item.output)}<dl>{shown}</dl>"


def _text(title: str, text: str) -> str:
    return f'<h2>{title}</h2><pre tabindex="0" role="region" aria-label="{title}">{_lines(text)}</pre>'


def _lines(text: str) -> str:
    """As it is; a blank line as such would end the HTML block in Markdown."""
    return escape(text).replace("\r", "&#13;").replace("\n", "&#10;")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= LONGEST_SHORT else f"{line[:LONGEST_SHORT]}…") or "nothing"

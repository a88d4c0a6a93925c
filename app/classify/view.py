"""Predictions as HTML: what is seen is also there as text, and everything of the user's is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from app.classify.classifier import Classifier, Prediction
from app.classify.occlusion import Moved
from app.classify.rows import Row

NUM_SHADES = 4
SMALLEST_SHOWN_EFFECT = 0.05
"""Nats of log-odds: 0.05 moves a probability of one half by about one hundredth."""
MAX_CELL_CHARACTERS = 120


def bars_html(classifier: Classifier, prediction: Prediction) -> str:
    """A row a label: its name, a bar, its probability; the chosen ones are marked. Numbers without bars for a
    regression."""
    pairs = list(zip(classifier.labels, prediction.values, strict=True))
    if classifier.kind == "regression":
        rows = "".join(
            f'<tr><th scope="row">{_text(label)}</th><td class="value">{value:.4g}</td></tr>' for label, value in pairs
        )
        caption = "Predicted values"
    else:
        pairs.sort(key=lambda pair: -pair[1])
        rows = "".join(
            f'<tr class="{"chosen" if label in prediction.labels else "other"}"><th scope="row">{_text(label)}'
            f"{' <small>chosen</small>' if label in prediction.labels else ''}</th>"
            f'<td class="bar"><span style="width: {100 * value:.2f}%"></span></td>'
            f'<td class="value">{100 * value:.1f} %</td></tr>'
            for label, value in pairs
        )
        caption = "Probability of each label" if classifier.kind == "multi" else "Probabilities of the labels"
    notes = f'<p class="subdued">{_text(classifier.name)}{_told(classifier, prediction)}</p>'
    return f'<table class="bars"><caption>{caption}</caption><tbody>{rows}</tbody></table>{notes}'


def moved_html(moved: Moved) -> str:
    """The text, each piece with its effect as a number and as a colour."""
    largest = max(SMALLEST_SHOWN_EFFECT, *(abs(piece.effect) for piece in moved.pieces))
    spans = "".join(
        f'<span class="piece {_shade(piece.effect, largest)}"><span>{_text(piece.text.strip())}</span>'
        f"<small>{_signed(piece.effect)}</small></span>"
        for piece in moved.pieces
    )
    if moved.kind == "regression":
        about = f"How much lower the value of <strong>{_text(moved.label)}</strong> ({moved.value:.4g}) is"
        unit = ""
    else:
        about = f"How much lower the log-odds of <strong>{_text(moved.label)}</strong> ({100 * moved.value:.1f} %) are"
        unit = ", in nats"
    return (
        f'<h3>What moved the decision</h3><p class="subdued">{about} without each word{unit}: '
        f'<span class="piece for-3"><small>+</small></span> for, <span class="piece against-3"><small>−</small></span> '
        f'against.</p><div class="pieces">{spans}</div>'
    )


def preview_html(rows: Sequence[Row], columns: Sequence[str], column: str) -> str:
    """The first rows of a file as a table, the column with the texts marked."""
    head = "".join(f'<th scope="col"{" class=chosen" if name == column else ""}>{_text(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{row.line:,}</th>'
        + "".join(f"<td{_mark(name, column)}>{_cell(row.cells.get(name))}</td>" for name in columns)
        + f"<td>{_text(row.problem)}</td></tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="First rows of the file"><table class="preview">'
        f'<thead><tr><th scope="col">line</th>{head}<th scope="col">problem</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def reasons_html(reasons: Sequence[tuple[int, str]], num_all: int) -> str:
    """The first rows without an answer, by line; empty if there are none."""
    if not reasons:
        return ""
    items = "".join(f"<li>Line {line:,}: {_text(reason)}</li>" for line, reason in reasons)
    more = (
        f"<p>… and {num_all - len(reasons):,} more, all in the file of answers.</p>" if num_all > len(reasons) else ""
    )
    return f"<h3>Rows without an answer</h3><ul>{items}</ul>{more}"


def _told(classifier: Classifier, prediction: Prediction) -> str:
    told = " · the end of the text did not fit and was left out" if prediction.is_cut else ""
    if classifier.kind == "multi" and not prediction.labels:
        told += " · no label reaches the threshold"
    return told


def _shade(effect: float, largest: float) -> str:
    if abs(effect) < SMALLEST_SHOWN_EFFECT:
        return "for-0"
    step = min(NUM_SHADES - 1, 1 + int((NUM_SHADES - 1) * abs(effect) / largest))
    return f"{'for' if effect > 0 else 'against'}-{step}"


def _signed(effect: float) -> str:
    return f"{effect:+.2f}".replace("-", "−")


def _mark(name: str, column: str) -> str:
    return ' class="chosen"' if name == column else ""


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return _text(text if len(text) <= MAX_CELL_CHARACTERS else f"{text[:MAX_CELL_CHARACTERS]} …")


def _text(text: str) -> str:
    """Escaped; also for Markdown, which would join or break lines at blank ones."""
    return html.escape(" ".join(text.encode("utf-8", "replace").decode("utf-8").split()))

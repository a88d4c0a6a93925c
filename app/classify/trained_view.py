"""A trained head's measurements as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.classify.training import Stage

if TYPE_CHECKING:
    from model.finetune.classify.measure import Figure, Measurement
    from model.finetune.classify.run import TrainedHead

PICTURES = {"confusion.png": "Confusion matrix, the table above as a picture", "calibration.png": "Calibration curve"}
SHOWN_PROBLEMS = 10


def training_html(stage: Stage) -> str:
    """A bar and the stage in words."""
    told = html.escape(f"{stage.name}, {stage.done:,} of at most {stage.total:,}")
    return f'<progress max="{max(1, stage.total)}" value="{stage.done}" aria-label="Training"></progress><p>{told}</p>'


def trained_html(trained: TrainedHead) -> str:
    """Accuracy and macro-F1 beside the baselines', figures of each label, confusion, calibration, rows left out."""
    measured = trained.measured
    counts = trained.split.counts()
    sizes = ", ".join(f"{sum(labels.values()):,} {part}" for part, labels in counts.items())
    parts = [
        f"<h3>Head {html.escape(trained.info.name)} is trained and can be chosen</h3>",
        f'<p class="subdued">Texts: {html.escape(sizes)}. Measured on the test texts, with 95 % intervals.</p>',
        _table(
            ("", "accuracy", "macro-F1"),
            [
                (trained.info.name, *_headline(measured)),
                *((name, *_headline(baseline)) for name, baseline in trained.baselines.items()),
            ],
        ),
        _table(
            ("label", "precision", "recall", "F1", "test texts"),
            [
                (one.label, _figure(one.precision), _figure(one.recall), _figure(one.f1), f"{one.support:,}")
                for one in measured.labels
            ],
        ),
        _table(
            ("label ↓ answer →", *(one.label for one in measured.labels)),
            [
                (one.label, *(f"{count:,}" for count in row))
                for one, row in zip(measured.labels, measured.confusion, strict=True)
            ],
        ),
    ]
    if measured.calibration is not None:
        parts.append(f'<p class="subdued">Expected calibration error {measured.calibration.error:.3f}.</p>')
    parts += [_picture(trained, name, told) for name, told in PICTURES.items()]
    problems = [problem for skipped in trained.skipped.values() for problem in skipped]
    if problems:
        items = "".join(f"<li>{html.escape(str(problem))}</li>" for problem in problems[:SHOWN_PROBLEMS])
        parts.append(f"<h3>Rows left out: {len(problems):,}</h3><ul>{items}</ul>")
    return "".join(parts)


def _headline(measured: Measurement) -> tuple[str, str]:
    return _figure(measured.accuracy), _figure(measured.macro_f1)


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{100 * figure.value:.1f} %"
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _picture(trained: TrainedHead, name: str, told: str) -> str:
    path = trained.folder / name
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(told)}">'

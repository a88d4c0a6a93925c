"""`results/parity.md`, rendered from comparisons: figures have one digit, so that another run hardly changes it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

import torch

from model.parity.cases import BY_DEFINITION, Oracle
from model.parity.classification import ROW_LENGTHS, SECTION, ClassifierComparison
from model.parity.compare import GREEDY_TOKENS, Comparison, Error
from model.parity.our_forward import STEP_TOKENS
from model.parity.random_checkpoint import PROMPT_TOKENS
from model.parity.verdict import FLOAT32_BOUND, LOSS_BOUND, LOW_PRECISION_RATIO, failures, mean_ratio

EMPTY = "–"

INTRODUCTION = f"""# Parity with Hugging Face

Written by `make parity` (`python -m model.parity`), which fails if a row is over a bound; change nothing here by hand.

Every row is one checkpoint folder, read by our loader and run by our engine (paged KV cache), and read and run by
Hugging Face transformers (eager attention), both on the CPU. Random checkpoints are small (three layers of 48
dimensions, unless the row says otherwise) with weights so large that logits differ by units; their prompt is
{PROMPT_TOKENS} random tokens. Bundled checkpoints have trained weights; their prompt is a short conversation.

- **std** standard deviation of the reference's logits, to set the differences against. The reference is Hugging Face in
  float32, but for the section "{BY_DEFINITION}".
- **fp32, bf16, fp16** largest absolute difference from the reference over all positions and the whole vocabulary, in
  nats: **fp32** of ours in float32, at most {FLOAT32_BOUND:.0e}; **bf16 ours** of ours in bfloat16 and **bf16 HF** of
  Hugging Face's own bfloat16, which is what rounding costs each of them; **fp16** likewise in float16. Our mean
  difference may be at most {LOW_PRECISION_RATIO} times Hugging Face's.
- **greedy** how many of {GREEDY_TOKENS} greedy tokens in float32 equal the reference's (Hugging Face's `generate`)
  before the first that differs; it must be all. Ours come from the engine's loop, the prompt in chunks of
  {STEP_TOKENS}, the answer token by token.
"""

NOTES = {
    "Persimmon": """In "squares beyond float16" the activations of a layer are about 400, whose squares float16 cannot
hold: our layer scales them, Hugging Face's overflows.
""",
    BY_DEFINITION: """Options of MosaicML's MPT, most of which Hugging Face's class leaves out. The reference is an
independent forward in float64 written from MosaicML's own definition, `model/parity/mpt_definition.py`. **HF fp32** is
how far Hugging Face's float32 logits are from it: `fails` where it cannot run the checkpoint; where it is as small as
ours, Hugging Face does implement the row, and confirms the definition.
""",
}


CLASSIFIERS = f"""Checkpoints of `PersimmonForSequenceClassification`, `MptForSequenceClassification` and
`LlamaForSequenceClassification`: the matrix `score` on the last hidden state of the last token that is no padding.
Texts of {", ".join(map(str, ROW_LENGTHS))} random tokens: ours together in the engine's loop, Hugging Face's padded to
the longest on the side named, or, where config.json has no pad_token_id, one by one, since it takes no batch then.
**std** and **fp32** as above; **loss** Hugging Face's, the mean of the texts, in nats (regression: squared units), and
**loss error** how far ours is from it, at most {LOSS_BOUND:.0e}.
"""


def render(
    comparisons: Sequence[Comparison],
    setting: Mapping[str, str],
    *,
    classifiers: Sequence[ClassifierComparison] = (),
) -> str:
    """The page.

    Args:
        comparisons: in the order of their rows; sections come in the order of their first row.
        classifiers: the rows of the section after them.
        setting: what the figures depend on, see `model.parity.setting`.
    """
    sections: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        sections.setdefault(comparison.case.section, []).append(comparison)
    bad = failures(comparisons, classifiers)
    count = len(comparisons) + len(classifiers)
    verdict = f"**Over a bound:** {'; '.join(bad)}." if bad else f"All {count} rows are within their bounds."
    parts = [INTRODUCTION, f"{verdict}\n", _summary(sections)]
    for title, rows in sections.items():
        parts += [f"## {title}\n", *([NOTES[title]] if title in NOTES else []), _section(rows)]
    if classifiers:
        parts += [f"## {SECTION}\n", CLASSIFIERS, _classifier_section(classifiers)]
    parts += ["## Computed with\n", "\n".join(f"- {name}: {value}" for name, value in setting.items()) + "\n"]
    return "\n".join(parts)


def _summary(sections: Mapping[str, Sequence[Comparison]]) -> str:
    """Worst figures by section, and how our mean low-precision errors compare with Hugging Face's."""
    lines = [
        (
            title,
            str(len(rows)),
            _figure(max((row.float32.largest for row in rows), key=_not_finite_last)),
            f"{sum(row.num_equal == GREEDY_TOKENS for row in rows)} of {len(rows)}",
            _ratios(rows, torch.bfloat16),
            _ratios(rows, torch.float16),
        )
        for title, rows in sections.items()
    ]
    header = ("", "rows", "worst fp32", "all greedy equal", "bf16 ours / HF", "fp16 ours / HF")
    return (
        _table(header, lines)
        + "\nThe last two columns: our mean error divided by Hugging Face's, median and range over the rows.\n"
    )


def _section(rows: Sequence[Comparison]) -> str:
    by_definition = rows[0].case.oracle is Oracle.DEFINITION
    columns = (
        ("bf16 ours", "fp16 ours", "HF fp32") if by_definition else ("bf16 ours", "bf16 HF", "fp16 ours", "fp16 HF")
    )
    return _table(("configuration", "std", "fp32", "greedy", *columns), [_row(row) for row in rows])


def _classifier_section(rows: Sequence[ClassifierComparison]) -> str:
    lines = [
        (row.case.name, f"{row.std:.1f}", _figure(row.float32.largest), f"{row.loss:.2f}", _figure(row.loss_error))
        for row in rows
    ]
    return _table(("configuration", "std", "fp32", "loss", "loss error"), lines)


def _row(row: Comparison) -> tuple[str, ...]:
    bfloat16, float16 = row.low_precision[torch.bfloat16], row.low_precision[torch.float16]
    start = (row.case.name, f"{row.std:.1f}", _figure(row.float32.largest), f"{row.num_equal} of {GREEDY_TOKENS}")
    if row.case.oracle is Oracle.DEFINITION:
        theirs = "fails" if row.hugging_face is None else _figure(row.hugging_face.largest)
        return (*start, _largest(bfloat16.ours), _largest(float16.ours), theirs)
    return (*start, *(_largest(error) for half in (bfloat16, float16) for error in (half.ours, half.theirs)))


def row_keys(page: str) -> list[tuple[str, str]]:
    """Section and name of every row of a rendered page."""
    keys, section = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif section and line.startswith("| ") and not line.startswith(("| configuration ", "| --- ")):
            keys.append((section, line.split(" | ")[0].removeprefix("| ")))
    return keys


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def _ratios(rows: Sequence[Comparison], dtype: torch.dtype) -> str:
    ratios = [ratio for row in rows if (ratio := mean_ratio(row, dtype)) is not None]
    if not ratios:
        return EMPTY
    middle = f"{statistics.median(ratios):.1f}"
    return middle if len(ratios) == 1 else f"{middle} ({min(ratios):.1f} to {max(ratios):.1f})"


def _largest(error: Error | None) -> str:
    return EMPTY if error is None else _figure(error.largest)


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.0e}" if value else "0"


def _not_finite_last(value: float) -> float:
    return value if math.isfinite(value) else math.inf

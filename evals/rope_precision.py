"""Perplexity against position, with rotary positions in float32 and in bfloat16.

    python -m evals rope-precision                                          the bundled checkpoint on the demo world
    python -m evals rope-precision --checkpoint adept/persimmon-8b-base --text book.txt

Hugging Face computes Persimmon's rotary angles in float32, Adept's own server in bfloat16 ("for backward compatibility
with models already trained"), which tells positions apart only up to 256. Which of the two the published weights fit
better shows where the texts are long.
"""

from __future__ import annotations

import argparse
import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evals import measurement
from evals.errors import EvaluationError
from evals.measurement import EMPTY, MeasurementRecord, defined, percent
from evals.statistics import clustered
from evals.texts import SEPARATOR, Texts
from model.interface import Engine, ScoreRequest

SETTINGS = ("float32", "bfloat16")
FIRST_RANGE = 256  # positions that bfloat16, with 8 bits of precision, holds exactly

INTRODUCTION = """## Rotary positions in float32 and in bfloat16

Every token of long texts is predicted twice: with rotary positions in float32, as Hugging Face computes them, and in
bfloat16, as Adept's own server does. "Positions" are those of the token read last, which predicts the next one; texts
longer than the context are cut, and every part begins anew at position 0 with one token that is not scored. bfloat16
holds positions exactly up to 256, but rounds the cosines everywhere, so the two part a little from the start.

"Nll difference" is of the mean negative log-likelihood a token (nats; above 0: bfloat16 predicts worse), paired by
token, with Student's 95 % interval over texts; the demo world's short texts are joined to whole contexts, each counted
as a text. "Top changes" is the share of places where the most probable token is another. The bundled models were
trained with float32 positions, on texts of up to 320 tokens: they show the measurement, and say nothing about
Persimmon-8B.
"""


@dataclass(frozen=True, kw_only=True)
class PositionRange:
    """Positions `first` to `last`. Values are `None` where the range holds no token; the interval also with one text.

    Attributes:
        nll, perplexity: by setting, the mean negative log-likelihood a token in nats, and its exponential.
        difference, low, high: nll with bfloat16 positions minus nll with float32, and its 95 % interval over texts.
        top_changes: share of places, 0 to 1, where the two settings' most probable tokens differ.
    """

    first: int
    last: int
    num_tokens: int
    num_texts: int
    nll: dict[str, float | None]
    perplexity: dict[str, float | None]
    difference: float | None
    low: float | None
    high: float | None
    top_changes: float | None


@dataclass(frozen=True, kw_only=True)
class RopePrecisionRecord(MeasurementRecord):
    """One measurement.

    Attributes:
        context_length: of the parts that texts are cut into, in tokens read. first_token: id that stands before each.
        ranges, whole: by position, and over all positions.
    """

    SCHEMA: ClassVar[int] = 1
    FOLDER: ClassVar[str] = "rope_precision"

    context_length: int
    first_token: int
    ranges: tuple[PositionRange, ...]
    whole: PositionRange

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RopePrecisionRecord:
        ranges = tuple(PositionRange(**each) for each in raw["ranges"])
        return cls(**{**raw, "ranges": ranges, "whole": PositionRange(**raw["whole"])})


@dataclass(frozen=True, slots=True)
class Part:
    """At most a context of one text; `text` says which."""

    text: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """Of all parts' tokens, end to end: negative log-likelihood in nats, and the most probable token's id."""

    nll: NDArray[np.float64]
    top: NDArray[np.int64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m evals rope-precision`."""
    measurement.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m evals rope-precision`: 0, or 1 after one sentence on stderr."""
    return measurement.run(options, measure, render)


def measure(checkpoint: str, texts: Texts, options: argparse.Namespace) -> RopePrecisionRecord:
    """Open the checkpoint with each setting in turn and score all texts.

    Raises:
        EngineError: the checkpoint or an option cannot be used.
        EvaluationError: the model has no rotary positions, or names no token to begin a text with.
    """
    from model.open_engine import open_engine
    from model.probes.loaded import read_family

    if read_family(checkpoint, revision=options.revision) == "mpt":
        raise EvaluationError(
            f"{Path(checkpoint).name} is an MPT, whose ALiBi has no rotary positions: give a Persimmon or a Llama"
        )

    def open_with(rope_position_dtype: str) -> Engine:
        return open_engine(
            checkpoint,
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
            rope_position_dtype=rope_position_dtype,
            context_length=options.context_length,
        )

    return compare(open_with, texts, limit_tokens=options.limit_tokens)


def compare(
    open_with: Callable[[str], Engine], texts: Texts, *, limit_tokens: int | None = None
) -> RopePrecisionRecord:
    """Score `texts` with both settings.

    Args:
        open_with: an engine for one of :data:`SETTINGS`; it is closed here before the next is opened, so that the
            weights are in memory once.

    Raises:
        EvaluationError: the model names no token to begin a text with.
    """
    started, git = measurement.begin()
    parts: list[Part] = []
    scores: dict[str, Scores] = {}
    for setting in SETTINGS:
        engine = open_with(setting)
        try:
            info, first_token = engine.info, _first_token(engine)
            parts = parts or list(cut(texts, engine.tokenizer.encode, length=info.context_length, limit=limit_tokens))
            scores[setting] = score(engine, parts, first_token=first_token)
        finally:
            engine.close()
            del engine
            _free_device_memory()
    positions = np.concatenate([np.arange(len(part.token_ids)) for part in parts])
    which = np.concatenate([np.full(len(part.token_ids), part.text) for part in parts])

    def summary(first: int, last: int) -> PositionRange:
        return summarise(scores, which, inside=(first <= positions) & (positions <= last), first=first, last=last)

    return RopePrecisionRecord(
        schema=RopePrecisionRecord.SCHEMA,
        **measurement.common_fields(info, texts, started=started, git=git),
        num_tokens=len(positions),
        limit_tokens=limit_tokens,
        context_length=info.context_length,
        first_token=first_token,
        ranges=tuple(summary(first, last) for first, last in position_ranges(info.context_length)),
        whole=summary(0, info.context_length - 1),
    )


def position_ranges(context_length: int) -> Iterator[tuple[int, int]]:
    """First and last position of each range: 0 to 255, then each as long as all before it, up to the context's end."""
    first, end = 0, FIRST_RANGE
    while first < context_length:
        yield first, min(end, context_length) - 1
        first, end = end, 2 * end


def cut(texts: Texts, encode: Callable[[str], list[int]], *, length: int, limit: int | None) -> Iterator[Part]:
    """Texts as parts of at most `length` tokens, together at most `limit`.

    The bundled texts are joined first and cut into whole contexts (what is left over, if there is a whole one, is
    dropped); each of these counts as a text.
    """
    left = limit
    for index, text in enumerate((SEPARATOR.join(texts.texts),) if texts.bundled else texts.texts):
        tokens = encode(text)
        for number, start in enumerate(range(0, len(tokens), length)):
            part = tokens[start : start + length]
            if texts.bundled and number and len(part) < length:
                return
            part = part[:left]
            yield Part(number if texts.bundled else index, tuple(part))
            if left is not None:
                left -= len(part)
                if not left:
                    return


def score(engine: Engine, parts: Sequence[Part], *, first_token: int) -> Scores:
    """Score every token of every part after `first_token` and the tokens before it."""
    results = engine.score(
        [
            ScoreRequest(context_token_ids=(first_token,), continuation_token_ids=part.token_ids, top_logprobs=1)
            for part in parts
        ]
    )
    return Scores(
        nll=np.array([-logprob for result in results for logprob in result.logprobs], dtype=np.float64),
        top=np.array([top[0][0] for result in results for top in result.top], dtype=np.int64),
    )


def summarise(
    scores: Mapping[str, Scores], texts: NDArray[np.int64], *, inside: NDArray[np.bool_], first: int, last: int
) -> PositionRange:
    """The tokens `inside` [num_tokens]; `texts` [num_tokens] says which text each is of."""
    fine, coarse = (scores[setting] for setting in SETTINGS)
    nll = {name: each.nll[inside] for name, each in scores.items()}
    count = int(inside.sum())
    means = {name: float(values.mean()) if count else math.nan for name, values in nll.items()}
    difference = clustered((coarse.nll[inside] - fine.nll[inside]).tolist(), texts[inside].tolist())
    return PositionRange(
        first=first,
        last=last,
        num_tokens=count,
        num_texts=difference.num_clusters,
        nll={name: defined(mean) for name, mean in means.items()},
        perplexity={name: defined(float(np.exp(mean))) for name, mean in means.items()},
        difference=defined(difference.value),
        low=defined(difference.low),
        high=defined(difference.high),
        top_changes=float((fine.top[inside] != coarse.top[inside]).mean()) if count else None,
    )


def _first_token(engine: Engine) -> int:
    """What stands at position 0: the BOS if there is one, else the end of a document."""
    tokenizer = engine.tokenizer
    candidates = (tokenizer.bos_token_id, *tokenizer.eos_token_ids)
    for token in candidates:
        if token is not None:
            return token
    raise EvaluationError(f"{engine.info.model_name} names no BOS or end-of-document token: its config must")


def _free_device_memory() -> None:
    """Give the closed engine's memory back to the GPU: the next engine asks it what is free."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def read_records(output: Path) -> list[RopePrecisionRecord]:
    """All records under `output`.

    Raises:
        EvaluationError: one cannot be read.
    """
    return measurement.read_all(RopePrecisionRecord, output)


def render(records: Sequence[RopePrecisionRecord]) -> str:
    """The section of the results page: the same records give the same bytes."""
    parts = [INTRODUCTION] + [part for record in records for part in _render(record)]
    return "\n".join(parts if records else [INTRODUCTION, "No measurement is recorded.\n"])


def _render(record: RopePrecisionRecord) -> list[str]:
    import pandas as pd

    rows = [_cells(each, f"{each.first} to {each.last}") for each in record.ranges] + [_cells(record.whole, "all")]
    return [
        measurement.heading(record),
        pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) + "\n",
    ]


def _cells(each: PositionRange, name: str) -> dict[str, str]:
    return {
        "positions": name,
        "tokens": str(each.num_tokens),
        "texts": str(each.num_texts),
        **{f"perplexity, {setting}": _number(each.perplexity[setting], "{:.3f}") for setting in SETTINGS},
        "nll difference": _number(each.difference, "{:+.4f}"),
        "95 % interval": EMPTY if each.low is None or each.high is None else f"{each.low:+.4f} to {each.high:+.4f}",
        "top changes %": percent(each.top_changes),
    }


def _number(value: float | None, form: str) -> str:
    return EMPTY if value is None else form.format(value)

"""How many of a model's neurons are exactly 0 on given text, and what a kernel that skips them could gain.

    python -m evals sparsity                                                the bundled checkpoint on the demo world
    python -m evals sparsity --checkpoint adept/persimmon-8b-base --text book.txt

Squared ReLU, the activation of Persimmon, is exactly 0 wherever its input is not positive; reports put the published
model at about 90 % zeros. Decoding is bound by the bytes read, and the weights of a neuron that is 0 need not be read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from evals import measurement
from evals.errors import EvaluationError
from evals.measurement import EMPTY, MeasurementRecord, defined, percent
from evals.texts import Texts

if TYPE_CHECKING:
    from model.probes.activations import LayerCounts

QUANTILES = {"5": "5 % quantile", "50": "median", "95": "95 % quantile"}  # over tokens
KINDS = {"consecutive": "in a row", "apart": "apart"}

INTRODUCTION = """## Zeros after the activation

Which share of the MLPs' neurons is exactly 0, so that its weights in the second MLP matrix need not be read. On random
weights this is 50 % with squared ReLU; GELU (MPT) and SwiGLU (Llama) are 0 only by rounding. The quantiles are over
tokens. The bundled models say nothing about Persimmon-8B.

"Live" neurons are those that are not 0 for every token of a step. The tokens of a step are taken *in a row* from one
text (as drafts of one answer) or *apart*: from different texts, or at least 32 tokens from each other (as answers of
several users). "Traffic" is the bytes of all weights that a step reads, over the bytes if it reads only the live
neurons' rows of the second matrices: an upper bound of the gain, without keys, values and computation.
"""


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer, or the mean of all. Shares are 0 to 1, `None` where there is nothing to count.

    Attributes:
        layer: from 0; `None` for the mean.
        zero_share: over tokens and neurons.
        token_quantiles: of the share of zeros at a token, by percent of the tokens.
        live_share_of_groups: by kind (`consecutive`, `apart`) and number of tokens, the share of neurons that are not 0
            for all tokens of a group.
    """

    layer: int | None
    num_neurons: int
    zero_share: float | None
    token_quantiles: dict[str, float | None]
    live_share_of_groups: dict[str, dict[str, float | None]]


@dataclass(frozen=True, kw_only=True)
class SparsityRecord(MeasurementRecord):
    """One measurement.

    Attributes:
        layers, mean: by layer, and over layers with equal weight.
        num_streamed: parameters a decoding step reads, all but the input embedding; num_second_matrices: those of them
            in second MLP matrices. bytes_per_parameter: in memory.
        traffic_ratio: by kind and number of tokens, bytes of a step that reads all over bytes of one that reads live
            rows only; `None` without groups.
    """

    SCHEMA: ClassVar[int] = 1
    FOLDER: ClassVar[str] = "sparsity"

    layers: tuple[LayerRow, ...]
    mean: LayerRow
    num_streamed: int
    num_second_matrices: int
    bytes_per_parameter: int
    traffic_ratio: dict[str, dict[str, float | None]]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SparsityRecord:
        layers = tuple(LayerRow(**layer) for layer in raw["layers"])
        return cls(**{**raw, "layers": layers, "mean": LayerRow(**raw["mean"])})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m evals sparsity`."""
    measurement.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m evals sparsity`: 0, or 1 after one sentence on stderr."""
    return measurement.run(options, measure, render)


def measure(checkpoint: str, texts: Texts, options: argparse.Namespace) -> SparsityRecord:
    """Load a checkpoint, run the texts through it, count.

    Every text is read from position 0; one longer than the context in parts.

    Raises:
        EngineError: the checkpoint or an option cannot be used, or a number is not finite.
        EvaluationError: the context length is more than the model's own.
    """
    from model.probes.activations import count_zeros
    from model.probes.loaded import load
    from model.probes.streamed import streamed_parameters

    started, git = measurement.begin()
    loaded = load(checkpoint, revision=options.revision, device=options.device, dtype=options.dtype)
    model = loaded.model
    own_length = model.config.context_length
    length = options.context_length or own_length
    if length > own_length:
        raise EvaluationError(f"context_length={length} is not allowed: this model takes 2 to {own_length}")
    encoded = (loaded.tokenizer.encode_prompt(text) for text in texts.texts)
    sequences = list(_parts(encoded, length=length, limit=options.limit_tokens))
    counts = count_zeros(model, sequences)
    streamed = streamed_parameters(model)
    return SparsityRecord(
        schema=SparsityRecord.SCHEMA,
        **measurement.common_fields(loaded, texts, started=started, git=git),
        num_tokens=sum(map(len, sequences)),
        limit_tokens=options.limit_tokens,
        layers=tuple(_row(index, [layer]) for index, layer in enumerate(counts)),
        mean=_row(None, counts),
        num_streamed=streamed.total,
        num_second_matrices=sum(streamed.second_matrices),
        bytes_per_parameter=model.lm_head.weight.itemsize,
        traffic_ratio={
            kind: {
                str(size): defined(streamed.traffic_ratio([getattr(layer, kind)[size].share for layer in counts]))
                for size in getattr(counts[0], kind)
            }
            for kind in KINDS
        },
    )


def _parts(encoded: Iterator[list[int]], *, length: int, limit: int | None) -> Iterator[list[int]]:
    """Sequences of at most `length` tokens, together at most `limit`."""
    left = limit
    for tokens in encoded:
        for start in range(0, len(tokens), length):
            part = tokens[start : start + length][:left]
            yield part
            if left is not None:
                left -= len(part)
                if not left:
                    return


def _row(layer: int | None, counts: Sequence[LayerCounts]) -> LayerRow:
    """The row of one layer, or of the mean of several."""
    zero_shares = np.mean([each.zeros / each.num_neurons for each in counts], axis=0)  # [num_tokens]
    quantiles = np.quantile(zero_shares, [float(name) / 100 for name in QUANTILES])
    return LayerRow(
        layer=layer,
        num_neurons=sum(each.num_neurons for each in counts),
        zero_share=float(zero_shares.mean()),
        token_quantiles={name: float(value) for name, value in zip(QUANTILES, quantiles, strict=True)},
        live_share_of_groups={
            kind: {
                str(size): defined(float(np.mean([getattr(each, kind)[size].share for each in counts])))
                for size in getattr(counts[0], kind)
            }
            for kind in KINDS
        },
    )


def read_records(output: Path) -> list[SparsityRecord]:
    """All records under `output`.

    Raises:
        EvaluationError: one cannot be read.
    """
    return measurement.read_all(SparsityRecord, output)


def render(records: Sequence[SparsityRecord]) -> str:
    """The section of the results page: the same records give the same bytes."""
    parts = [INTRODUCTION] + [part for record in records for part in _render(record)]
    return "\n".join(parts if records else [INTRODUCTION, "No measurement is recorded.\n"])


def _render(record: SparsityRecord) -> list[str]:
    import pandas as pd

    layers = pd.DataFrame([_cells(row) for row in (*record.layers, record.mean)])
    steps = pd.DataFrame(
        {
            "tokens in a step": size,
            **{
                name: value
                for kind, words in KINDS.items()
                for name, value in (
                    (f"live, {words} %", percent(record.mean.live_share_of_groups[kind][size])),
                    (f"traffic, {words}", _times(record.traffic_ratio[kind][size])),
                )
            },
        }
        for size in record.traffic_ratio["consecutive"]
    )
    return [
        measurement.heading(record),
        layers.to_markdown(index=False, disable_numparse=True) + "\n",
        steps.to_markdown(index=False, disable_numparse=True) + "\n",
        f"A step that reads all reads {record.num_streamed * record.bytes_per_parameter:,} bytes of weights, "
        f"{percent(record.num_second_matrices / record.num_streamed)} % of them second MLP matrices.\n",
    ]


def _cells(row: LayerRow) -> dict[str, str]:
    live = row.live_share_of_groups
    return {
        "layer": "mean" if row.layer is None else str(row.layer),
        "zeros %": percent(row.zero_share),
        **{words: percent(row.token_quantiles[name]) for name, words in QUANTILES.items()},
        **{
            f"live in {size} {words} %": percent(live[kind][size])
            for kind, words in KINDS.items()
            for size in live[kind]
            if size != "1"
        },
    }


def _times(ratio: float | None) -> str:
    return EMPTY if ratio is None else f"{ratio:.3f}"

"""Megatron's tensor names to Hugging Face's, written out, with each tensor's shape and how ranks share it.

Sources: persimmon-ai-labs/adept-inference, megatron/model/transformer.py and megatron/mpu/layers.py (which dimension
is split); Hugging Face's PersimmonForCausalLM (the names on the right).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from model.checkpoint.convert.hyper_parameters import HyperParameters
from model.checkpoint.convert.restricted_pickle import StoredTensor
from model.checkpoint.convert.wording import shown, some
from model.checkpoint.errors import CheckpointError


class Split(Enum):
    """How tensor-parallel ranks share a tensor."""

    ROWS = "rows"  # ColumnParallelLinear and VocabParallelEmbedding: each rank has some of the first dimension
    COLUMNS = "columns"  # RowParallelLinear: each rank has some of the second
    WHOLE = "whole"  # every rank has all of it


@dataclass(frozen=True, slots=True)
class Rename:
    """`source` is Megatron's name, `target` Hugging Face's, `shape` that of the joined tensor."""

    source: str
    target: str
    shape: tuple[int, ...]
    split: Split

    def rank_shape(self, num_ranks: int) -> tuple[int, ...]:
        """What one rank holds.

        Raises:
            CheckpointError: the ranks cannot share it evenly.
        """
        if self.split is Split.WHOLE:
            return self.shape
        at = 0 if self.split is Split.ROWS else 1
        if self.shape[at] % num_ranks:
            raise CheckpointError(
                f"{self.source} has {self.shape[at]} {self.split.value}, not a multiple of {num_ranks}"
            )
        return (*self.shape[:at], self.shape[at] // num_ranks, *self.shape[at + 1 :])


# Follow from the settings (checked by `conversion`) and have no place in Hugging Face's layout.
DROPPED: Final = re.compile(r"language_model\.encoder\.layers\.\d{1,6}\.self_attention\.rotary_emb\.inv_freq")


def renames(sizes: HyperParameters) -> Iterator[Rename]:
    """All tensors of a model, in the order in which they are written."""
    hidden, ffn, head = sizes.hidden_size, sizes.ffn_hidden_size, sizes.head_dim
    rows, columns, whole = Split.ROWS, Split.COLUMNS, Split.WHOLE
    yield Rename(
        "language_model.embedding.word_embeddings.weight",
        "model.embed_tokens.weight",
        (sizes.vocab_size, hidden),
        rows,
    )
    # query_key_value: rows are head by head, each head's query, key and value rows together; ranks have whole heads.
    layer: list[tuple[str, str, tuple[int, ...], Split]] = [
        ("input_layernorm.weight", "input_layernorm.weight", (hidden,), whole),
        ("input_layernorm.bias", "input_layernorm.bias", (hidden,), whole),
        ("self_attention.query_key_value.weight", "self_attn.query_key_value.weight", (3 * hidden, hidden), rows),
        ("self_attention.query_key_value.bias", "self_attn.query_key_value.bias", (3 * hidden,), rows),
        ("self_attention.q_layernorm.weight", "self_attn.q_layernorm.weight", (head,), whole),
        ("self_attention.q_layernorm.bias", "self_attn.q_layernorm.bias", (head,), whole),
        ("self_attention.k_layernorm.weight", "self_attn.k_layernorm.weight", (head,), whole),
        ("self_attention.k_layernorm.bias", "self_attn.k_layernorm.bias", (head,), whole),
        ("self_attention.dense.weight", "self_attn.dense.weight", (hidden, hidden), columns),
        ("self_attention.dense.bias", "self_attn.dense.bias", (hidden,), whole),
        ("post_attention_layernorm.weight", "post_attention_layernorm.weight", (hidden,), whole),
        ("post_attention_layernorm.bias", "post_attention_layernorm.bias", (hidden,), whole),
        ("mlp.dense_h_to_4h.weight", "mlp.dense_h_to_4h.weight", (ffn, hidden), rows),
        ("mlp.dense_h_to_4h.bias", "mlp.dense_h_to_4h.bias", (ffn,), rows),
        ("mlp.dense_4h_to_h.weight", "mlp.dense_4h_to_h.weight", (hidden, ffn), columns),
        ("mlp.dense_4h_to_h.bias", "mlp.dense_4h_to_h.bias", (hidden,), whole),
    ]
    for index in range(sizes.num_layers):
        for source, target, shape, split in layer:
            if sizes.qk_layernorm or not re.match(r"self_attention\.[qk]_layernorm\.", source):
                yield Rename(
                    f"language_model.encoder.layers.{index}.{source}", f"model.layers.{index}.{target}", shape, split
                )
    for part in ("weight", "bias"):
        yield Rename(
            f"language_model.encoder.final_layernorm.{part}", f"model.final_layernorm.{part}", (hidden,), whole
        )
    yield Rename("word_embeddings_for_head.weight", "lm_head.weight", (sizes.vocab_size, hidden), rows)


def check_tensors(
    wanted: Mapping[str, Rename], tensors: Mapping[str, StoredTensor], *, file: str, num_ranks: int
) -> None:
    """See that one rank's file holds each tensor wanted, in the shape wanted, and none that has no place.

    Raises:
        CheckpointError: naming the tensor.
    """
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise CheckpointError(f"{shown(file)} lacks the tensor {some(missing)}: the release is incomplete or altered")
    extra = [name for name in tensors if name not in wanted and not DROPPED.fullmatch(name)]
    if extra:
        raise CheckpointError(f"{shown(file)} holds {some(extra)}, which has no place in Persimmon: it was altered")
    for name, rename in wanted.items():
        shape = rename.rank_shape(num_ranks)
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{shown(file)} holds {name} with shape {list(tensors[name].shape)} where the checkpoint's args ask "
                f"for {list(shape)}: it was altered"
            )

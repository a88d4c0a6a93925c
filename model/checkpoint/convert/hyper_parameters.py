"""A model's sizes and settings, from the arguments saved with it.

Names and defaults: persimmon-ai-labs/adept-inference, megatron/arguments.py. What an argument does not say is read
from the tensors' shapes; where both say something, `names.check_tensors` compares them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from model.checkpoint.convert.restricted_pickle import StoredTensor
from model.checkpoint.convert.wording import shown
from model.checkpoint.errors import CheckpointError

DEFAULT_ROTARY_BASE: Final = 25_000.0  # --rotary-emb-base
DEFAULT_LAYER_NORM_EPS: Final = 1e-5  # --layernorm-epsilon
DEFAULT_ROTARY_SHARE: Final = 0.5  # the published model's --rotary-pct, where neither args nor inv_freq say it

EMBEDDING: Final = "language_model.embedding.word_embeddings.weight"
_LAYER = "language_model.encoder.layers.{}."
_LAYER_NAME = re.compile(r"language_model\.encoder\.layers\.(\d{1,6})\.")

# Arguments that decide what is written; they are compared between ranks and recorded in conversion.json.
USED_ARGS: Final = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "kv_channels",
    "padded_vocab_size",
    "max_position_embeddings",
    "seq_length",
    "layernorm_epsilon",
    "pos_emb",
    "rotary_pct",
    "rotary_emb_base",
    "qk_layernorm",
    "untie_embeddings",
    "sq_relu",
    "bias_gelu_fusion",
    "apply_residual_connection_post_layernorm",
    "num_experts",
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
)
# What another value of an argument would mean; none of it is in Persimmon, and our engine could not run it.
_ONLY: Final[dict[str, tuple[object, ...]]] = {
    "pos_emb": ("rotary",),
    "untie_embeddings": (True,),
    "sq_relu": (True,),
    "bias_gelu_fusion": (False,),  # it would win over sq_relu (megatron/model/transformer.py, ParallelMLP.forward)
    "apply_residual_connection_post_layernorm": (False,),
    "num_experts": (1,),
    "pipeline_model_parallel_size": (1,),
    # The third kind has a norm for each head, under other names. The second, one for each rank, is joined only if the
    # ranks agree.
    "qk_layernorm": ("none", "weights_per_layer", "weights_per_tensor_parallel_rank_and_layer"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HyperParameters:
    """Sizes in elements, of the joined model; `rotary_share` of each head is rotated."""

    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float
    rotary_base: float
    rotary_share: float
    qk_layernorm: bool

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


def read_hyper_parameters(
    args: Mapping[str, Any], tensors: Mapping[str, StoredTensor], *, num_ranks: int
) -> HyperParameters:
    """Settings of a release.

    Args:
        args: Megatron's arguments. tensors: of the first rank. num_ranks: over how many the tensors are split.

    Raises:
        CheckpointError: an argument has a value no Persimmon has, or neither it nor the tensors say what is needed.
    """
    for name, allowed in _ONLY.items():
        value = args.get(name)
        if value is not None and not any(type(value) is type(one) and value == one for one in allowed):
            raise CheckpointError(
                f"the checkpoint's args have {name}={shown(value)}: Persimmon has {' or '.join(map(str, allowed))}"
            )
    if _integer(args, "tensor_model_parallel_size", num_ranks) != num_ranks:
        raise CheckpointError(
            f"the checkpoint's args have tensor_model_parallel_size={args['tensor_model_parallel_size']} where the "
            f"release has {num_ranks} ranks: a rank is missing, or is too many"
        )
    num_layers = _num_layers(args, tensors)
    embedding = _shape(tensors, EMBEDDING, 2)
    hidden_size = _integer(args, "hidden_size", embedding[1])
    heads = _num_heads(args, tensors, hidden_size)
    if heads % num_ranks:
        raise CheckpointError(
            f"the release has {num_ranks} ranks, which cannot share {heads} heads evenly: it was altered"
        )
    return HyperParameters(
        num_layers=num_layers,
        hidden_size=hidden_size,
        ffn_hidden_size=_integer(
            args, "ffn_hidden_size", _shape(tensors, _LAYER.format(0) + "mlp.dense_h_to_4h.weight", 2)[0] * num_ranks
        ),
        num_attention_heads=heads,
        vocab_size=_integer(args, "padded_vocab_size", embedding[0] * num_ranks),
        max_position_embeddings=_context_length(args),
        layer_norm_eps=_number(args, "layernorm_epsilon", DEFAULT_LAYER_NORM_EPS, above=0, at_most=0.1),
        rotary_base=_number(args, "rotary_emb_base", DEFAULT_ROTARY_BASE, above=1, at_most=1e12),
        rotary_share=_rotary_share(args, tensors, hidden_size // heads),
        qk_layernorm=(
            _LAYER.format(0) + "self_attention.q_layernorm.weight" in tensors
            if args.get("qk_layernorm") is None
            else args["qk_layernorm"] != "none"
        ),
    )


def _context_length(args: Mapping[str, Any]) -> int:
    named = "seq_length" if args.get("max_position_embeddings") is None else "max_position_embeddings"
    return _integer(args, named, None)


def _num_layers(args: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> int:
    present = {int(match[1]) for match in map(_LAYER_NAME.match, tensors) if match}
    num_layers = _integer(args, "num_layers", len(present) or None)
    if len(present) != num_layers or max(present) != num_layers - 1:  # no set of the size that args say
        missing = sorted(set(range(min(num_layers, len(present) + 1))) - present)
        raise CheckpointError(
            f"the checkpoint's args ask for {num_layers} layers where the release holds {len(present)}"
            + (f" and lacks layer {missing[0]}" if missing else "")
            + ": it is incomplete or altered"
        )
    return num_layers


def _num_heads(args: Mapping[str, Any], tensors: Mapping[str, StoredTensor], hidden_size: int) -> int:
    q_layernorm = tensors.get(_LAYER.format(0) + "self_attention.q_layernorm.weight")
    head_dim = q_layernorm.shape[0] if q_layernorm is not None and q_layernorm.shape else None
    head_dim = _integer(args, "kv_channels", head_dim or 0) if head_dim or args.get("kv_channels") is not None else None
    heads = _integer(args, "num_attention_heads", hidden_size // head_dim if head_dim else None)
    if hidden_size % heads or head_dim not in (None, hidden_size // heads):
        raise CheckpointError(
            f"the checkpoint's args have hidden_size={hidden_size}, num_attention_heads={heads} and heads of "
            f"{head_dim}: the first must be the product of the others"
        )
    return heads


def _rotary_share(args: Mapping[str, Any], tensors: Mapping[str, StoredTensor], head_dim: int) -> float:
    inv_freq = tensors.get(_LAYER.format(0) + "self_attention.rotary_emb.inv_freq")
    stored = None
    if inv_freq is not None:
        stored = 2 * inv_freq.shape[0] / head_dim if len(inv_freq.shape) == 1 else 0
        if not 0 < stored <= 1:
            raise CheckpointError(
                f"rotary_emb.inv_freq has shape {list(inv_freq.shape)}, which does not suit heads of {head_dim}: it "
                "was altered"
            )
    share = _number(args, "rotary_pct", stored or DEFAULT_ROTARY_SHARE, above=0, at_most=1)
    if stored is not None and int(share * head_dim) != int(stored * head_dim):
        raise CheckpointError(
            f"the checkpoint's args have rotary_pct={share} where rotary_emb.inv_freq says {stored}: they do not "
            "belong together"
        )
    return share


def _shape(tensors: Mapping[str, StoredTensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(f"the release lacks the tensor {name}: it is incomplete or not Persimmon")
    shape = tensors[name].shape
    if len(shape) != dimensions:
        raise CheckpointError(f"{name} has shape {list(shape)}: it must have {dimensions} dimensions")
    return shape


def _integer(args: Mapping[str, Any], name: str, default: int | None) -> int:
    value = args.get(name)
    if value is None:
        if not default:
            raise CheckpointError(f"the checkpoint's args have no {name}, and nothing else says it: it is needed")
        return default
    if type(value) is not int or not 0 < value < 1 << 40:
        raise CheckpointError(f"the checkpoint's args have {name}={shown(value)}: it must be a positive whole number")
    return value


def _number(args: Mapping[str, Any], name: str, default: float, *, above: float, at_most: float) -> float:
    value = args.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not math.isfinite(value) or not above < value <= at_most:
        raise CheckpointError(
            f"the checkpoint's args have {name}={shown(value)}: it must be a number above {above}, at most {at_most}"
        )
    return float(value)

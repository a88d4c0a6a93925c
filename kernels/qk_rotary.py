"""What stands between the query-key-value matrix and attention: the definition, in torch.

Queries and keys are normalised head by head (Persimmon) and turned by their position (Persimmon, Llama); keys and
values go into the paged cache (all three; MPT has nothing else).
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from kernels.paged_attention import write_kv_reference
from kernels.rotary import apply_rotary_reference


class Rotation(NamedTuple):
    """Cosines and sines of each token's angles: [num_tokens, half] in the states' dtype; the first 2 * half dimensions
    of a head are rotated."""

    cos: Tensor
    sin: Tensor


class HeadNorms(NamedTuple):
    """LayerNorm of every query head and of every key head; each weight and bias is [head_dim], for all heads."""

    query_weight: Tensor
    query_bias: Tensor
    key_weight: Tensor
    key_bias: Tensor
    eps: float


def qk_rotary_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    slot_mapping: Tensor,
    rotation: Rotation | None = None,
    norms: HeadNorms | None = None,
) -> Tensor:
    """Norm and rotation of queries and keys; keys and values written to their slots.

    Args:
        query: [num_tokens, num_heads, head_dim]; key, value: [num_tokens, num_kv_heads, head_dim].
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim], changed in place.
        slot_mapping: [num_tokens] int64, block * block_size + offset. Padding tokens have slots of the null block, of
            which several may be the same: nobody reads it.
        rotation, norms: `None` without.

    Returns:
        The queries that attention takes, [num_tokens, num_heads, head_dim]; `query` itself if nothing is done to it.
    """
    if norms is not None:
        size = (query.shape[-1],)
        query = F.layer_norm(query, size, norms.query_weight, norms.query_bias, norms.eps)
        key = F.layer_norm(key, size, norms.key_weight, norms.key_bias, norms.eps)
    if rotation is not None:
        query, key = (apply_rotary_reference(states, rotation.cos, rotation.sin) for states in (query, key))
    write_kv_reference(key, value, key_cache, value_cache, slot_mapping=slot_mapping)
    return query

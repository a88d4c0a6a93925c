"""Rotary position embedding of the first dimensions of each head, NeoX halves (Su et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_rotary_reference(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first `2 * half` dimensions of every head; the rest passes unchanged.

    Args:
        states: [num_tokens, num_heads, head_dim].
        cos, sin: [num_tokens, half], the states' dtype.

    Returns:
        [num_tokens, num_heads, head_dim], a new tensor.
    """
    half = cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]
    first, second, rest = torch.split(states, [half, half, states.shape[-1] - 2 * half], dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def apply_rotary_to_both_reference(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`apply_rotary_reference` on queries and keys in one: half as many operations, which is what the time of a
    step with few tokens goes into.

    Args:
        query: [num_tokens, num_heads, head_dim]; key: [num_tokens, num_kv_heads, head_dim].

    Returns:
        Two new tensors of these shapes.
    """
    both = apply_rotary_reference(torch.cat((query, key), dim=1), cos, sin)
    return both[:, : query.shape[1]], both[:, query.shape[1] :]

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


def apply_rotary_(states: Tensor, cos: Tensor, sin: Tensor) -> None:
    """:func:`apply_rotary_reference` in place: nothing is copied for the dimensions that pass unchanged.

    Args:
        states: [num_tokens, num_heads, head_dim], overwritten.
        cos, sin: [num_tokens, half], the states' dtype.
    """
    half = cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]
    first, second = states[..., :half], states[..., half : 2 * half]
    turned = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(turned)

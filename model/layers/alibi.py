"""Slopes of attention with linear biases (Press et al. 2022), as MPT sets them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def alibi_slopes(num_heads: int, *, bias_max: float, device: torch.device) -> Tensor:
    """[num_heads] float32: 2^(-bias_max * i / n), i = 1 ... n, where n is num_heads rounded up to a power of two; if
    that adds heads, every second slope is taken, first the even places, then the odd ones (mosaicml/llm-foundry,
    models/layers/attention.py, gen_slopes)."""
    rounded = 2 ** math.ceil(math.log2(num_heads))
    exponents = torch.arange(1, rounded + 1, dtype=torch.float32, device=device) * (bias_max / rounded)
    slopes = 1.0 / torch.pow(2, exponents)
    if rounded != num_heads:
        slopes = torch.cat((slopes[1::2], slopes[::2]))[:num_heads]
    return slopes

"""What stands between the two halves of an MLP: the definitions, in torch.

Each takes what a matrix gives and hands on what the next one takes, rounded where the families round.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.squared_relu import FP16_INPUT_LIMIT

LARGEST_EXPONENT = 10
"""Of a scale: the sum of two float16 numbers is below 2^17, and 2^17 / 128 is 2^10."""


class SquaredRelu(NamedTuple):
    """relu^2 as squares * scale^2: [num_tokens, intermediate_size], and in float16 [num_tokens, 1], a power of two by
    whose square a product with the squares is multiplied; `None` in other dtypes, which hold the squares themselves."""

    squares: Tensor
    scale: Tensor | None


def bias_relu_squared_reference(states: Tensor, bias: Tensor | None) -> SquaredRelu:
    """relu(states + bias)^2 (So et al. 2021, Primer), in float32 and rounded once.

    In float16, which holds no square of anything from 256 on, rows with large entries are divided by a power of two
    first, as :func:`kernels.squared_relu.squared_relu_linear_reference` does.

    Args:
        states: [num_tokens, intermediate_size]; bias: [intermediate_size], or `None`.

    Returns:
        The squares in the states' dtype, and their scale.
    """
    total = F.relu(_add(states, bias))
    if states.dtype != torch.float16:
        return SquaredRelu(total.square().to(states.dtype), None)
    largest = total.amax(dim=-1, keepdim=True)
    exponent = torch.frexp(largest / FP16_INPUT_LIMIT).exponent.clamp(min=0, max=LARGEST_EXPONENT)
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    return SquaredRelu((total / scale).square().half(), scale.half())


def swiglu_reference(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (Shazeer 2020), silu rounded to the dtype before the product, as Llama's MLP does.

    Args:
        gate, up: [num_tokens, intermediate_size].

    Returns:
        [num_tokens, intermediate_size], the same dtype.
    """
    return F.silu(gate) * up


def bias_gelu_reference(states: Tensor, bias: Tensor | None) -> Tensor:
    """gelu(states + bias) with the exact error function (Hendrycks and Gimpel 2016), in float32 and rounded once.

    Args:
        states: [num_tokens, intermediate_size]; bias: [intermediate_size], or `None`.

    Returns:
        [num_tokens, intermediate_size], the states' dtype.
    """
    return F.gelu(_add(states, bias)).to(states.dtype)


def _add(states: Tensor, bias: Tensor | None) -> Tensor:
    return states.to(torch.float32) if bias is None else states.float() + bias.float()

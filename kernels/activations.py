"""What stands between the two halves of an MLP: the definitions, in torch.

Each takes what a matrix gives and hands on what the next one takes, rounded where the families round.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bias_relu_squared_reference(states: Tensor, bias: Tensor | None) -> Tensor:
    """relu(states + bias)^2 (So et al. 2021, Primer), in float32 and rounded once.

    In fp16 it is infinite from 256 on; `kernels.squared_relu` has a way with the matrix after it that is not.

    Args:
        states: [num_tokens, intermediate_size]; bias: [intermediate_size], or `None`.

    Returns:
        [num_tokens, intermediate_size], the states' dtype.
    """
    return F.relu(_add(states, bias)).square().to(states.dtype)


def swiglu_reference(gate_up: Tensor) -> Tensor:
    """silu(gate) * up (Shazeer 2020), silu rounded to the dtype before the product, as Llama's MLP does.

    Args:
        gate_up: [num_tokens, 2 * intermediate_size], the gates first.

    Returns:
        [num_tokens, intermediate_size], the same dtype.
    """
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def bias_gelu_reference(states: Tensor, bias: Tensor | None) -> Tensor:
    """gelu(states + bias) with the exact error function (Hendrycks and Gimpel 2016), in float32 and rounded once.

    Args and result as :func:`bias_relu_squared_reference`.
    """
    return F.gelu(_add(states, bias)).to(states.dtype)


def _add(states: Tensor, bias: Tensor | None) -> Tensor:
    return states.to(torch.float32) if bias is None else states.float() + bias.float()

"""The second half of a squared-ReLU MLP: relu(x)^2 times a matrix, without leaving fp16's range."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.linear import linear

# Rows are scaled so that no input exceeds this: its square, 2^14, leaves room below fp16's largest number, 65504.
FP16_INPUT_LIMIT = 128.0


def squared_relu_linear_reference(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """relu(states)^2 @ weight.T + bias.

    The square of anything from 256 on is infinite in fp16. There, rows with large entries are divided by a power of
    two first, which is exact, and the product is multiplied back twice; only a true result beyond 65504 is infinite.

    Args:
        states: [num_tokens, intermediate_size]; weight: [hidden_size, intermediate_size]; bias: [hidden_size].

    Returns:
        [num_tokens, hidden_size], the states' dtype.
    """
    if states.dtype != torch.float16:
        return linear(F.relu(states).square(), weight, bias)
    states = F.relu(states)
    largest = states.amax(dim=-1, keepdim=True).float()
    # frexp: largest = m * 2^e with m in [0.5, 1), so dividing by 2^e leaves less than 1
    exponent = torch.frexp(largest / FP16_INPUT_LIMIT).exponent.clamp(min=0)
    scale = torch.ldexp(torch.ones_like(largest), exponent).to(states.dtype)  # 1 to 512
    product = F.linear((states / scale).square(), weight) * scale * scale
    return product if bias is None else product + bias


def squared_relu_linear_(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor] = linear,
) -> Tensor:
    """:func:`squared_relu_linear_reference`, bit for bit; `states` is overwritten, which saves fresh memory for it.

    Args:
        linear: what multiplies, but not in float16.
    """
    if states.dtype == torch.float16:
        return squared_relu_linear_reference(states, weight, bias)
    states.relu_()
    return linear(states.mul_(states), weight, bias)

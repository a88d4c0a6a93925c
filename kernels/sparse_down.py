"""relu(x)^2 times a matrix, reading only the rows of the matrix that count: exact, not an approximation.

relu(x)^2 is exactly 0 for x <= 0, so a row of the second matrix of a squared-ReLU MLP whose activation is 0 for every
token adds nothing and need not be read. The terms of the sums are the dense product's; only their order may differ.
The matrix is kept once, as [intermediate_size, hidden_size], so that such a row lies in one piece; transposed it is the
weight of the dense product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.squared_relu import FP16_INPUT_LIMIT, squared_relu_linear_reference

MOST_TOKENS = 8
"""Above this many tokens most rows are live for one of them: 57 % at 8 tokens with 90 % independent zeros each."""
MAX_LIVE_FRACTION = 0.6
"""Above this share of live rows, skipping the others saves less than gathering costs."""


def sparse_down_projection_reference(
    states: Tensor,
    weight_t: Tensor,
    *,
    max_live_fraction: float = MAX_LIVE_FRACTION,
    live_counter: Tensor | None = None,
    is_token: Tensor | None = None,
) -> Tensor:
    """relu(states)^2 @ weight_t, from the rows of weight_t that are live for a token; all rows if too many are.

    A row is live unless its state is <= 0 for every token; NaN is live. Squares are rounded to the states' dtype, as
    the dense product's are, and summed in float32; in float16 they are scaled as
    :func:`kernels.squared_relu.squared_relu_linear_reference` says. More than `MOST_TOKENS` tokens take the dense
    product. Entries of weight_t must be finite: a row that is not read cannot turn 0 times infinity into NaN.

    Args:
        states: [num_tokens, intermediate_size], before the activation, bias included.
        weight_t: [intermediate_size, hidden_size], the states' dtype.
        max_live_fraction: share of live rows above which all are read.
        live_counter: int64 [2], live rows and rows so far; added to in place, by calls with 1 to `MOST_TOKENS` tokens.
        is_token: int64 [num_tokens], 0 for padding: it makes no row live, and its own result is not to be used. `None`:
            there is no padding.

    Returns:
        Partial sums [num_partials, num_tokens, hidden_size] float32, whose sum over the first dimension is the result;
        here there is one. The bias of the product is the caller's to add.
    """
    num_tokens, num_rows = states.shape
    if not 0 < num_tokens <= MOST_TOKENS:
        return dense_partials(states, weight_t)
    is_live = ~(states <= 0)
    if is_token is not None:
        is_live &= (is_token != 0)[:, None]
    rows = is_live.any(dim=0).nonzero().squeeze(1)  # ascending
    if live_counter is not None:
        live_counter += torch.tensor([len(rows), num_rows], device=live_counter.device)
    live = F.relu(states)
    scale = _scale(live) if states.dtype == torch.float16 else None
    if len(rows) <= int(max_live_fraction * num_rows):
        live, weight_t = live.index_select(1, rows), weight_t.index_select(0, rows)
    if scale is None:
        return (live.square().float() @ weight_t.float()).unsqueeze(0)
    return ((live / scale).square().float() @ weight_t.float() * scale.float().square()).unsqueeze(0)


def dense_partials(states: Tensor, weight_t: Tensor) -> Tensor:
    """The dense product as one partial sum, [1, num_tokens, hidden_size] float32, once rounded to the states' dtype."""
    return squared_relu_linear_reference(states, weight_t.T, None).float().unsqueeze(0)


def sparse_squared_relu_linear_reference(
    states: Tensor, weight_t: Tensor, bias: Tensor | None, *, live_counter: Tensor | None = None
) -> Tensor:
    """:func:`sparse_down_projection_reference` with its partial sums and the bias added, in the states' dtype."""
    product = sparse_down_projection_reference(states, weight_t, live_counter=live_counter).sum(dim=0)
    return (product if bias is None else product + bias.float()).to(states.dtype)


def _scale(live: Tensor) -> Tensor:
    """Power of two by which each row of [num_tokens, n] float16 is divided, [num_tokens, 1]."""
    largest = live.amax(dim=-1, keepdim=True).float()
    exponent = torch.frexp(largest / FP16_INPUT_LIMIT).exponent.clamp(min=0)
    return torch.ldexp(torch.ones_like(largest), exponent).to(live.dtype)

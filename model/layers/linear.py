"""A projection, as the families call it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.layers.ops import REFERENCE, Ops


class Linear(nn.Linear):
    """`torch.nn.Linear` for inference, computed by `ops.linear`: [num_tokens, in_features] in, [num_tokens,
    out_features] out.

    With `by_columns`, the weight's memory is in the order [in_features, out_features]; its shape is what it always is.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        ops: Ops = REFERENCE,
        by_columns: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.product = ops.linear
        if by_columns:
            self.weight = nn.Parameter(torch.empty_like(self.weight.T.contiguous()).T)

    def forward(self, states: Tensor) -> Tensor:
        return self.product(states, self.weight, self.bias)

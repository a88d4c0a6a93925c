"""A projection, as the families call it."""

from __future__ import annotations

from torch import Tensor, nn

from kernels.linear import linear


class Linear(nn.Linear):
    """`torch.nn.Linear` for inference, computed by `kernels.linear`: [num_tokens, in_features] in, [num_tokens,
    out_features] out."""

    def forward(self, states: Tensor) -> Tensor:
        return linear(states, self.weight, self.bias)

"""RMSNorm as Llama defines it; LayerNorm is torch's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019), the mean in fp32, the product in x's dtype."""

    def __init__(self, hidden_size: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., hidden_size] -> the same shape and dtype."""
        states = hidden_states.float()
        states = states * torch.rsqrt(states.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * states.to(hidden_states.dtype)

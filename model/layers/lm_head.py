"""From hidden states to the vocabulary, only for the rows and tokens asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels.token_logprobs import TokenLogprobs
from model.layers.ops import REFERENCE, Ops


class LMHead(nn.Module):
    """A projection to the vocabulary without bias; `weight` is [vocab_size, hidden_size]. Logits are multiplied by
    `scale` (MPT's logit_scale)."""

    weight: Tensor

    def __init__(self, hidden_size: int, vocab_size: int, *, scale: float = 1.0, ops: Ops = REFERENCE) -> None:
        super().__init__()
        self.ops = ops
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Logits: [num_rows, hidden_size] -> [num_rows, vocab_size], float32."""
        logits = self.ops.linear(hidden_states, self.weight, None).float()
        return logits if self.scale == 1.0 else logits * self.scale

    def token_logprobs(
        self, hidden_states: Tensor, targets: Tensor, *, rows: Tensor | None = None, top_k: int = 0
    ) -> TokenLogprobs:
        """See `kernels.token_logprobs`: hidden_states [num_rows, hidden_size], targets and rows [num_targets] int64.
        The full logits are never built."""
        return self.ops.token_logprobs(hidden_states, self.weight, targets, rows=rows, scale=self.scale, top_k=top_k)

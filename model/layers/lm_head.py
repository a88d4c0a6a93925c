"""From hidden states to the vocabulary, only for the rows and tokens asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels.token_logprobs import token_logprobs_reference


class LMHead(nn.Module):
    """A projection to the vocabulary without bias; `weight` is [vocab_size, hidden_size]."""

    weight: Tensor

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Logits: [num_rows, hidden_size] -> [num_rows, vocab_size], float32."""
        return (hidden_states @ self.weight.T).float()

    def token_logprobs(self, hidden_states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `kernels.token_logprobs`: the full logits are never built."""
        return token_logprobs_reference(hidden_states, self.weight, targets)

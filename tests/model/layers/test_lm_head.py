"""The head's tiled log-probabilities are those of its logits."""

from __future__ import annotations

import pytest
import torch

from model.layers.lm_head import LMHead


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_token_logprobs_are_those_of_the_logits(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    head = LMHead(8, 50, scale=scale)
    with torch.no_grad():
        head.weight.copy_(torch.randn(50, 8, generator=generator))
        hidden_states = torch.randn(3, 8, generator=generator)
        expected = head(hidden_states).log_softmax(-1)
    rows, targets = torch.tensor([2, 0, 0, 2]), torch.tensor([7, 49, 0, 8])
    scores = head.token_logprobs(hidden_states, targets, rows=rows, top_k=4)
    torch.testing.assert_close(scores.logprobs, expected[rows, targets])
    torch.testing.assert_close(scores.top_logprobs, expected.topk(4).values)
    assert scores.top_ids.tolist() == expected.topk(4).indices.tolist()
    assert not scores.logprobs.requires_grad

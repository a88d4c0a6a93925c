"""Two engines on one checkpoint that differ in their kernels."""

from __future__ import annotations

import torch

from model.engine.engine import LocalEngine
from model.interface import SamplingParams, ScoreRequest

PROMPTS = ["human: What is red?\n\nadept:", "The"]


def compare(plain: LocalEngine, kernels: LocalEngine, params: SamplingParams) -> None:
    """Prompts of more and of fewer than 8 tokens, answers, and scores of what follows; both engines are closed."""
    try:
        assert plain.info.kernels == "torch's operations"
        expected, found = (engine.generate(PROMPTS, params) for engine in (plain, kernels))
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]
        tokenizer = plain.tokenizer
        asked = ScoreRequest(
            context_token_ids=tuple(tokenizer.encode(PROMPTS[1])),
            continuation_token_ids=tuple(tokenizer.encode(" sky is blue")),
        )
        [wanted], [score] = (engine.score([asked]) for engine in (plain, kernels))
        assert score.token_ids == wanted.token_ids
        assert score.is_greedy == wanted.is_greedy
        difference = torch.tensor(score.logprobs) - torch.tensor(wanted.logprobs)
        assert difference.abs().max() <= 1e-4
    finally:
        plain.close()
        kernels.close()

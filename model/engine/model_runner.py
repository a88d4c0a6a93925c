"""One model with its KV cache: a batch in, tokens and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.engine.batch_builder import StepRows, build_batch
from model.engine.sampler import sample
from model.engine.scheduler import Scheduled
from model.families.registry import CausalLM


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step's outcome: one token for each item of `rows.sampled`; log-probabilities (natural) and greedy flags for
    all targets of `rows.scored`, end to end."""

    rows: StepRows
    token_ids: list[int]
    logprobs: list[float]
    is_greedy: list[bool]


class ModelRunner:
    """Runs steps on one device.

    Args:
        model: loaded, on `device`.
        num_blocks, block_size: of the KV cache, which is allocated here in the model's dtype.
    """

    def __init__(self, model: CausalLM, *, num_blocks: int, block_size: int) -> None:
        self.model = model
        weight = model.lm_head.weight
        self.device = weight.device
        self.block_size = block_size
        self.kv_cache = model.config.kv_cache_shape.allocate(
            num_blocks=num_blocks, block_size=block_size, dtype=weight.dtype, device=weight.device
        )

    @torch.inference_mode()
    def run(self, scheduled: Sequence[Scheduled]) -> StepResult:
        """Compute the scheduled tokens, sample where a prompt or answer is complete, score where asked."""
        batch, rows = build_batch(scheduled, block_size=self.block_size, device=self.device)
        hidden_states = self.model(batch, self.kv_cache)  # [num_rows, hidden_size]
        num_sampled = len(rows.sampled)
        token_ids: list[int] = []
        if num_sampled:
            logits = self.model.lm_head(hidden_states[:num_sampled])
            token_ids = sample(logits, [item.request for item in rows.sampled])
        logprobs: list[float] = []
        is_greedy: list[bool] = []
        if rows.scored:
            targets = torch.tensor([target for _, targets in rows.scored for target in targets])
            scores = self.model.lm_head.token_logprobs(hidden_states[num_sampled:], targets.to(self.device))
            logprobs, is_greedy = scores[0].tolist(), scores[1].tolist()
        return StepResult(rows, token_ids, logprobs, is_greedy)

"""One model with its KV cache: a batch in, tokens and scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Module

from model.engine.batch_builder import StepRows, build_batch
from model.engine.sampler import sample
from model.engine.scheduler import Scheduled
from model.families.registry import CausalLM
from model.interface import EngineError
from model.layers.forward_batch import ForwardBatch


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
        """Compute the scheduled tokens, sample where a prompt or answer is complete, score where asked.

        Raises:
            EngineError: a hidden state or logit is not finite; the text names the layer.
        """
        batch, rows = build_batch(scheduled, block_size=self.block_size, device=self.device)
        hidden_states = self.model(batch, self.kv_cache)  # [num_rows, hidden_size]
        if not hidden_states.isfinite().all():
            raise EngineError(self._where_not_finite(batch))
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

    def _where_not_finite(self, batch: ForwardBatch) -> str:
        """Run a batch again to find the first module whose output is not finite. Its keys and values are written
        again as they were."""
        found: list[str] = []

        def watch(name: str) -> Callable[[Module, Any, Any], None]:
            def hook(module: Module, inputs: Any, output: Any) -> None:
                if not found and isinstance(output, torch.Tensor) and not output.isfinite().all():
                    found.append(name)

            return hook

        hooks = [module.register_forward_hook(watch(name)) for name, module in self.model.named_modules() if name]
        try:
            self.model(batch, self.kv_cache)
        finally:
            for hook in hooks:
                hook.remove()
        where = found[0] if found else "the model"
        return f"{where} gave a number that is not finite in {self.model.lm_head.weight.dtype}: use --dtype float32"

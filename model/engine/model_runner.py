"""One model with its KV cache: a batch in, tokens and scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module

from kernels.copy_blocks import copy_blocks_reference
from model.engine.batch_builder import StepRows, build_batch, packing_order
from model.engine.live_rows import LiveRows
from model.engine.request import Request
from model.engine.sampler import Sampled, SampleRequest, sample
from model.engine.scheduler import Scheduled
from model.families.registry import CausalLM
from model.interface import EngineError, TokenLogprob
from model.layers.attention_backends import AttentionBackend
from model.layers.forward_batch import ForwardBatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step's outcome.

    Attributes:
        tokens: for each request that came to its end, the next tokens: one, and one more for each draft that was right.
        scores: (request, log-probability of its next target, whether the target is the most probable token).
        hidden_states: (request, [hidden_size] float32).
    """

    tokens: list[tuple[Request, list[Sampled]]]
    scores: list[tuple[Request, TokenLogprob, bool]]
    hidden_states: list[tuple[Request, NDArray[np.float32]]]


class ModelRunner:
    """Runs steps on one device.

    Args:
        model: loaded, on `device`.
        num_blocks, block_size: of the KV cache, which is allocated here in the model's dtype.
        attention: what runs attention on a GPU; `None`: the reference.
        num_threads: torch's threads for the steps, a setting of the thread that runs them; `None` leaves it.

    Attributes:
        draw: how tokens are drawn; `None`: as the sampler does by itself.
        live_rows: counts of a model that skips zero rows; `None` of the others.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        num_blocks: int,
        block_size: int,
        attention: AttentionBackend | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.model = model
        self._num_threads = num_threads
        self.attention = attention
        self.draw = model.lm_head.ops.draw
        weight = model.lm_head.weight
        self.device = weight.device
        self.live_rows = LiveRows(self.device) if model.skips_zero_rows else None
        # Padding would count as live.
        self._pads = self.device.type == "cpu" and model.lm_head.ops.pads_steps and self.live_rows is None
        self.block_size = block_size
        self.kv_cache = model.config.kv_cache_shape.allocate(
            num_blocks=num_blocks, block_size=block_size, dtype=weight.dtype, device=weight.device
        )

    def use_device(self) -> None:
        """Make the model's GPU the calling thread's: our kernels are launched on that one, wherever tensors are."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    @torch.inference_mode()
    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy blocks of the cache, all layers, as pairs of from and to."""
        if copies:
            pairs = torch.tensor(copies, dtype=torch.int64, device=self.device)
            for layer in self.kv_cache:
                copy_blocks_reference(layer.key, layer.value, pairs=pairs)

    @torch.inference_mode()
    def run(self, scheduled: Sequence[Scheduled]) -> StepResult:
        """Compute the scheduled tokens, sample where a prompt or answer is complete, score where asked.

        Raises:
            EngineError: a hidden state or logit is not finite; the text names the layer.
        """
        if self._num_threads is not None and torch.get_num_threads() != self._num_threads:
            torch.set_num_threads(self._num_threads)
        batch, rows = build_batch(
            packing_order(scheduled, device=self.device, attention=self.attention),
            block_size=self.block_size,
            device=self.device,
            pads=self._pads,
            attention=self.attention,
        )
        if self.live_rows is not None:
            batch = replace(batch, live_counter=self.live_rows.counter)
        outputs = self.model(batch, self.kv_cache)  # [num_rows, hidden_size]
        if not outputs.isfinite().all():
            where = self._where_not_finite(batch)
            self._clear(batch.slot_mapping)
            raise EngineError(where)
        return StepResult(
            tokens=self._sample(outputs, rows),
            scores=self._score(outputs, rows),
            hidden_states=[(request, outputs[row].float().cpu().numpy()) for request, row in rows.hidden],
        )

    @torch.inference_mode()
    def fail_not_finite(self, scheduled: Sequence[Scheduled], slots: Sequence[int]) -> None:
        """End a step that gave a number that is not finite.

        Args:
            scheduled: the step's items, as they were before it, but for those that have ended since.
            slots: of the cache that it wrote; they are cleared.

        Raises:
            EngineError: always; the text names the layer if there is an item to find it with.
        """
        where = f"the model gave a number that is not finite in {self.model.lm_head.weight.dtype}"
        if scheduled:
            batch, _ = build_batch(scheduled, block_size=self.block_size, device=self.device, attention=self.attention)
            where = self._where_not_finite(batch)
        self._clear(torch.tensor(slots, device=self.device))
        raise EngineError(where)

    def _sample(self, outputs: Tensor, rows: StepRows) -> list[tuple[Request, list[Sampled]]]:
        if not rows.sampled:
            return []
        wanted = sorted({row for _, ends in rows.sampled for row in ends})
        logits = self.model.lm_head(outputs if len(wanted) == len(outputs) else outputs[wanted])  # [len(wanted), vocab]
        place = {row: index for index, row in enumerate(wanted)}
        found: dict[Request, list[Sampled]] = {request: [] for request, _ in rows.sampled}
        going_on = rows.sampled
        while going_on:  # once without drafts; each further round is about one draft more
            depths = [len(found[request]) for request, _ in going_on]
            chosen = [place[ends[depth]] for (_, ends), depth in zip(going_on, depths, strict=True)]
            alone = chosen == list(range(len(logits)))
            sampled = sample(
                logits if alone else logits[chosen],
                [_sample_request(request, depth) for (request, _), depth in zip(going_on, depths, strict=True)],
                draw=self.draw,
            )
            still: list[tuple[Request, range]] = []
            for (request, ends), depth, token in zip(going_on, depths, sampled, strict=True):
                found[request].append(token)
                if depth + 1 < len(ends) and request.draft_token_ids[depth] == token.token_id:
                    still.append((request, ends))
            going_on = still
        return list(found.items())

    def _score(self, outputs: Tensor, rows: StepRows) -> list[tuple[Request, TokenLogprob, bool]]:
        if not rows.scored:
            return []
        wanted = sorted({row for _, row, _ in rows.scored})
        place = {row: index for index, row in enumerate(wanted)}
        top_k = max(request.num_top_logprobs for request, _, _ in rows.scored)
        scores = self.model.lm_head.token_logprobs(
            outputs if len(wanted) == len(outputs) else outputs[wanted],
            torch.tensor([target for _, _, target in rows.scored], device=self.device),
            rows=torch.tensor([place[row] for _, row, _ in rows.scored], device=self.device),
            top_k=top_k,
        )
        if not scores.logprobs.isfinite().all():
            raise EngineError(f"lm_head gave a number that is not finite in {outputs.dtype}: use --dtype float32")
        logprobs, is_argmax = scores.logprobs.tolist(), scores.is_argmax.tolist()
        top_logprobs, top_ids = scores.top_logprobs.tolist(), scores.top_ids.tolist()
        results = []
        for (request, row, target), logprob, is_greedy in zip(rows.scored, logprobs, is_argmax, strict=True):
            count, at = request.num_top_logprobs, place[row]
            top = tuple(zip(top_ids[at][:count], top_logprobs[at][:count], strict=True)) if count else ()
            results.append((request, TokenLogprob(token_id=target, logprob=logprob, top=top), is_greedy))
        return results

    def _clear(self, slots: Tensor) -> None:
        """Zero what a failed step wrote. Who gets the blocks next may read past its own tokens and mask what it finds,
        but 0 x NaN is NaN."""
        for layer in self.kv_cache:
            for cache in (layer.key, layer.value):
                cache.flatten(0, 1).index_fill_(0, slots, 0)

    def _where_not_finite(self, batch: ForwardBatch) -> str:
        """Run a batch again to find the first module whose output is not finite. Its keys and values are written
        again as they were."""
        found: list[str] = []

        def watch(name: str) -> Callable[[Module, Any, Any], None]:
            def hook(module: Module, inputs: Any, output: Any) -> None:
                tensors = output if isinstance(output, tuple) else (output,)
                if not found and not all(each.isfinite().all() for each in tensors if isinstance(each, Tensor)):
                    found.append(name)

            return hook

        hooks = [module.register_forward_hook(watch(name)) for name, module in self.model.named_modules() if name]
        try:
            self.model(batch, self.kv_cache)
        finally:
            for hook in hooks:
                hook.remove()
        where = found[0] if found else "the model"
        dtype = self.model.lm_head.weight.dtype
        remedy = "its input is too large" if dtype == torch.float32 else "use --dtype float32"
        return f"{where} gave a number that is not finite in {dtype}: {remedy}"


def _sample_request(request: Request, depth: int) -> SampleRequest:
    """What the sampler needs for the token after the first `depth` drafts."""
    assert request.params is not None
    answer = request.token_ids[request.num_prompt_tokens :] if _looks_back(request) else []
    return SampleRequest(
        params=request.params,
        seed=request.seed,
        step=request.num_generated + depth,
        prompt_token_ids=request.token_ids[: request.num_prompt_tokens] if _looks_back(request) else [],
        answer_token_ids=answer + request.draft_token_ids[:depth],
    )


def _looks_back(request: Request) -> bool:
    """Whether a penalty depends on the tokens so far; copying them costs time."""
    params = request.params
    assert params is not None
    return params.repetition_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0

"""Whole decode steps, captured once for each of some batch sizes and replayed.

A step of running answers, one token each, launches hundreds of kernels that take less time than their launching does.
So everything it consists of, from the embedding to the choice of the next token and the move to the next position, is
recorded, and one call replays it. The token goes from the device's memory into the next step, which can therefore be
launched before the host has seen it (see `EngineCore.step`). Everything else (prompts, drafts, scores,
log-probabilities, biased or penalised answers) is computed step by step as without graphs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.engine.decode_buffers import ADVANCE, FROM_HOST, GIVEN, POSITION, SOURCE, STEP, DecodeBuffers
from model.engine.graph_backend import GraphBackend, Replay
from model.engine.model_runner import ModelRunner, StepResult
from model.engine.request import Request
from model.engine.sampler import Sampled
from model.engine.scheduler import Scheduled
from model.interface import EngineError
from model.layers.attention import why_not_capturable
from model.layers.attention_plan import plan_decoding
from model.layers.forward_batch import ForwardBatch

BATCH_SIZES = (1, 2, 4, 8, *range(16, 257, 8))


NO_GPU = "they need a GPU, and this engine runs on {device}"
TURNED_OFF = "turned off"
ONLY_CLASSIFIES = "a classifier answers nothing token by token"


def batch_sizes(max_num_requests: int) -> tuple[int, ...]:
    """Those of :data:`BATCH_SIZES` that steps of up to so many requests use."""
    smaller = tuple(size for size in BATCH_SIZES if size < max_num_requests)
    return BATCH_SIZES[: len(smaller) + 1]


@dataclass(frozen=True, slots=True)
class Launched:
    """A step on its way.

    Attributes:
        scheduled: its items; `rows` of the buffers, one for each.
        slots: of the KV cache that it writes.
        read: waits for it and gives `DecodeBuffers.results`.
    """

    scheduled: list[Scheduled]
    rows: list[int]
    slots: list[int]
    read: Callable[[], Tensor]


class DecodeGraphs:
    """Captures on construction, the largest batch first so that the others find room in its memory.

    Args:
        runner: whose model and cache are used.
        backend: of the runner's device.
        sizes: batch sizes, rising.
        max_blocks: most blocks of one request.

    Attributes:
        sizes: batch sizes that are captured. max_blocks: most blocks of one request.
        capture_s, num_bytes: what the capturing took.
        num_replays: steps launched so far.
    """

    def __init__(self, runner: ModelRunner, backend: GraphBackend, *, sizes: Sequence[int], max_blocks: int) -> None:
        self.sizes = tuple(sizes)
        self.max_blocks = max_blocks
        self.num_replays = 0
        self._runner = runner
        self._backend = backend
        self._buffers = DecodeBuffers(
            num_rows=self.sizes[-1], max_blocks=max_blocks, block_size=runner.block_size, device=runner.device
        )
        began_s, free = time.monotonic(), backend.num_free_bytes()
        with torch.inference_mode():
            self._replays: dict[int, Replay] = {
                size: backend.capture(lambda size=size: self._step(size))  # type: ignore[misc]
                for size in reversed(self.sizes)
            }
        if runner.live_rows is not None:
            runner.live_rows.forget()
        self.capture_s = time.monotonic() - began_s
        self.num_bytes = max(0, free - backend.num_free_bytes())

    def __str__(self) -> str:
        return (
            f"of {len(self.sizes)} batch sizes up to {self.sizes[-1]} captured in {self.capture_s:.1f} s, "
            f"{self.num_bytes / 1e9:.2f} GB"
        )

    def takes(self, scheduled: Sequence[Scheduled]) -> bool:
        """Whether a step can be replayed."""
        return len(scheduled) <= self.sizes[-1] and all(
            item.num_new_tokens == 1 and item.reaches_end and self._only_chooses(item.request) for item in scheduled
        )

    @torch.inference_mode()
    def launch(self, scheduled: list[Scheduled]) -> Launched:
        """Start a step: one that :meth:`takes` allows, or one after a launched step, of some of its requests."""
        requests = [item.request for item in scheduled]
        size = next(size for size in self.sizes if size >= len(requests))
        try:
            rows = self._buffers.place(requests, size, self._backend)
            self._replays[size]()
            read = self._backend.download(self._buffers.results)
        except Exception:
            self._buffers.forget()
            raise
        self.num_replays += 1
        block_size = self._runner.block_size
        slots = []
        for request in requests:
            block, offset = divmod(request.num_computed_tokens + request.num_in_flight, block_size)
            slots.append(request.block_table[block] * block_size + offset)
            request.num_in_flight += 1
        return Launched(scheduled, rows, slots, read)

    def wait(self, launched: Launched) -> StepResult:
        """The outcome of a step, the oldest first.

        Raises:
            EngineError: a hidden state or logit is not finite; the text names the layer.
        """
        for item in launched.scheduled:
            item.request.num_in_flight -= 1
        tokens, finite = launched.read().tolist()
        if not all(finite[row] for row in launched.rows):
            # What has ended meanwhile has no blocks any more to look at.
            alive = [item for item in launched.scheduled if item.request.block_table]
            self._runner.fail_not_finite(alive, launched.slots)
        return StepResult(
            tokens=[
                (item.request, [Sampled(tokens[row], None)])
                for item, row in zip(launched.scheduled, launched.rows, strict=True)
            ],
            scores=[],
            hidden_states=[],
        )

    def placed(self, requests: Sequence[Request]) -> Replay:
        """The bare step of some requests, to be timed: each call computes one token more of each, and nobody looks.
        Call :meth:`forget` after it."""
        size = next(size for size in self.sizes if size >= len(requests))
        self._buffers.place(requests, size, self._backend)
        return self._replays[size]

    def forget(self) -> None:
        """No request is where it was."""
        self._buffers.forget()

    def _step(self, size: int) -> None:
        """What is captured: one token of each of the first `size` rows."""
        buffers = self._buffers
        numbers = buffers.numbers[:, :size]
        source, positions, tables = numbers[SOURCE], numbers[POSITION], buffers.tables[:size]
        input_ids = torch.where(source >= 0, buffers.tokens[source.clamp(min=0)], numbers[GIVEN])
        blocks = tables.gather(1, (positions // buffers.block_size)[:, None])[:, 0]
        seq_lens = positions + 1
        live_rows = self._runner.live_rows
        attention, max_seq_len = self._runner.attention, buffers.max_blocks * buffers.block_size
        batch = ForwardBatch(
            input_ids=input_ids,
            positions=positions,
            rotary_lens=seq_lens,  # no answer's token stands inside the prompt, whose last one may
            slot_mapping=blocks * buffers.block_size + positions % buffers.block_size,
            query_start_loc=buffers.starts[: size + 1],
            seq_lens=seq_lens,
            block_tables=tables,
            logits_indices=buffers.starts[:size],
            max_query_len=1,
            max_seq_len=max_seq_len,
            attention_plan=None if attention is None else plan_decoding(size, max_seq_len, backend=attention),
            is_token=numbers[ADVANCE],
            live_counter=None if live_rows is None else live_rows.counter,
        )
        hidden_states = self._runner.model(batch, self._runner.kv_cache)  # [size, hidden_size]
        logits = self._runner.model.lm_head(hidden_states)
        largest, tokens = logits.max(dim=-1)
        if self._runner.draw is not None:
            tokens = self._runner.draw(logits, buffers.draw_params(size))
        finite = hidden_states.isfinite().all(dim=-1) & largest.isfinite()
        buffers.tokens[:size].copy_(tokens)
        buffers.results[0, :size].copy_(tokens)
        buffers.results[1, :size].copy_(finite)
        advance = numbers[ADVANCE]
        positions.add_(advance)
        numbers[STEP].add_(advance)
        source.copy_(torch.where(advance > 0, buffers.starts[:size], FROM_HOST))

    def _only_chooses(self, request: Request) -> bool:
        """Whether nothing is wanted of a request's next token but which it is, and the device can choose it."""
        params = request.params
        return (
            params is not None
            and (params.temperature == 0 or self._runner.draw is not None)
            and params.logprobs is None
            and not params.logit_bias
            and params.repetition_penalty == 1
            and params.presence_penalty == 0
            and params.frequency_penalty == 0
            and len(request.target_logprobs) >= len(request.targets)
            and (request.vectors is None or request.num_computed_tokens >= request.num_prompt_tokens)
        )


def why_no_graphs(runner: ModelRunner, *, wanted: bool, has_lm_head: bool) -> str | None:
    """Why steps of this engine are not captured; `None` if they can be."""
    if runner.device.type != "cuda":
        return NO_GPU.format(device=runner.device)
    if not wanted:
        return TURNED_OFF
    if not has_lm_head:
        return ONLY_CLASSIFIES
    return why_not_capturable(runner.attention)


def capture_graphs(
    runner: ModelRunner, backend: GraphBackend, *, max_num_requests: int, max_request_tokens: int
) -> DecodeGraphs:
    """Capture the steps of up to `max_num_requests` requests of up to `max_request_tokens` tokens.

    Raises:
        EngineError: it fails, such as for memory.
    """
    try:
        return DecodeGraphs(
            runner,
            backend,
            sizes=batch_sizes(max_num_requests),
            max_blocks=-(-max_request_tokens // runner.block_size),
        )
    except Exception as error:
        raise EngineError(
            f"the CUDA graphs cannot be captured ({type(error).__name__}: {error}): lower --gpu-memory-utilization if "
            "memory ran out, or use --no-graphs"
        ) from error

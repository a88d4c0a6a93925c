"""Our side: logits of every position, and greedy answers, of a loaded model."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.engine.batch_builder import build_batch
from model.engine.block_pool import BlockPool
from model.engine.core import EngineCore
from model.engine.model_runner import ModelRunner
from model.engine.request import Event, Request
from model.engine.scheduler import Scheduled, Scheduler
from model.families.registry import CausalLM
from model.interface import SamplingParams

BLOCK_SIZE = 4  # so small that a short prompt fills many blocks
STEP_TOKENS = 17  # so few that a prompt is computed in chunks whose borders are no blocks' borders


@torch.inference_mode()
def our_logits(model: CausalLM, token_ids: list[int], *, chunks: tuple[int, ...] = ()) -> torch.Tensor:
    """Logits of all positions through the batch builder and the paged cache.

    Args:
        token_ids: the prompt.
        chunks: sizes of the pieces it is computed in; together at most its length. Empty: whole.

    Returns:
        [num_tokens, vocab_size] float32.
    """
    num_blocks = len(token_ids) // BLOCK_SIZE + 2
    device, dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
    cache = model.config.kv_cache_shape.allocate(
        num_blocks=num_blocks, block_size=BLOCK_SIZE, dtype=dtype, device=device
    )
    request = Request(
        request_id=0,
        token_ids=token_ids,
        num_prompt_tokens=len(token_ids),
        deliver=lambda event: None,
        arrival_s=0.0,
        targets=tuple(token_ids),  # a row at every position
        block_table=list(reversed(range(1, num_blocks))),  # any order of blocks must do
    )
    rows = []
    for size in chunks or (len(token_ids),):
        batch, _ = build_batch([Scheduled(request, size)], block_size=BLOCK_SIZE, device=device)
        rows.append(model.lm_head(model(batch, cache)))
        request.num_computed_tokens += size
    return torch.cat(rows)


def our_greedy(model: CausalLM, token_ids: Sequence[int], *, count: int) -> list[int]:
    """The engine's `count` greedy tokens after a prompt, whatever they are; the prompt is computed in chunks.

    Raises:
        EngineError: a hidden state is not finite.
    """
    num_blocks = (len(token_ids) + count) // BLOCK_SIZE + 2
    errors: list[Exception] = []

    def deliver(event: Event) -> None:
        if isinstance(event, Exception):
            errors.append(event)

    request = Request(
        request_id=0,
        token_ids=list(token_ids),
        num_prompt_tokens=len(token_ids),
        deliver=deliver,
        arrival_s=0.0,
        params=SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True),
        max_tokens=count,
    )
    core = EngineCore(
        ModelRunner(model, num_blocks=num_blocks, block_size=BLOCK_SIZE),
        Scheduler(BlockPool(num_blocks, BLOCK_SIZE), max_num_requests=1, max_num_batched_tokens=STEP_TOKENS),
        WithoutText(),
        eos_token_ids=(),
    )
    core.add(request)
    while core.has_work:
        core.step()
    if errors:
        raise errors[0]
    return request.token_ids[len(token_ids) :]


def our_hidden_states(model: CausalLM, prompts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """The last token's hidden state after the final norm, [hidden_size], of each prompt, computed together in chunks.

    Raises:
        EngineError: a hidden state is not finite.
    """
    num_blocks = sum(len(prompt) // BLOCK_SIZE + 1 for prompt in prompts) + 1
    core = EngineCore(
        ModelRunner(model, num_blocks=num_blocks, block_size=BLOCK_SIZE),
        Scheduler(BlockPool(num_blocks, BLOCK_SIZE), max_num_requests=len(prompts), max_num_batched_tokens=STEP_TOKENS),
        WithoutText(),
        eos_token_ids=(),
    )
    found: dict[int, Event] = {}
    for index, prompt in enumerate(prompts):
        core.add(
            Request(
                request_id=index,
                token_ids=list(prompt),
                num_prompt_tokens=len(prompt),
                deliver=functools.partial(found.__setitem__, index),
                arrival_s=0.0,
                wants_hidden_state=True,
            )
        )
    while core.has_work:
        core.step()
    states = []
    for index in range(len(prompts)):
        state = found[index]
        if isinstance(state, Exception):
            raise state
        assert isinstance(state, np.ndarray)
        states.append(state)
    return states


class WithoutText:
    """A tokenizer for checkpoints that have none: every id stands for nothing."""

    vocab_size = 0
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError("this checkpoint has no tokenizer: give token ids")

    def encode_prompt(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return ""

    def token_bytes(self, token_id: int) -> bytes:
        return b""

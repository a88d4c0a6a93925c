"""A request inside the engine. Two counters and no phases: `num_computed_tokens` chases `num_tokens`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from model.interface import Completion, SamplingParams, StreamChunk, TokenScore

Event: TypeAlias = StreamChunk | TokenScore | Exception
Deliver: TypeAlias = Callable[[Event], None]


@dataclass(eq=False, kw_only=True, slots=True)
class Request:
    """Tokens to compute and what to do with the results: generate from them, or score them.

    Attributes:
        request_id: unique in its engine, growing with arrival.
        token_ids: the prompt, then what was generated. For scoring: context and continuation but for the last
            token, which predicts nothing.
        num_prompt_tokens: how many of them came with the request.
        deliver: called from the engine's thread with every result, and once with the last: a `StreamChunk` that has
            a completion, a `TokenScore`, or an exception.
        params: how to generate, `None` for scoring; `seed`: the seed in use.
        targets: for scoring, the continuation: targets[i] follows token num_tokens - len(targets) + i.
        num_computed_tokens: tokens whose keys and values are in the cache.
        block_table: KV blocks held, in order.
    """

    request_id: int
    token_ids: list[int]
    num_prompt_tokens: int
    deliver: Deliver
    arrival_s: float
    params: SamplingParams | None = None
    seed: int = 0
    max_tokens: int = 0
    targets: tuple[int, ...] = ()
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    first_scheduled_s: float | None = None
    first_token_s: float | None = None
    logprobs: list[float] = field(default_factory=list)
    is_greedy: list[bool] = field(default_factory=list)
    completion: Completion | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_generated(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def first_target_position(self) -> int:
        """Position of the token that predicts the first target."""
        return self.num_tokens - len(self.targets)

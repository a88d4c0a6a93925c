"""A request inside the engine. Two counters and no phases: `num_computed_tokens` chases `num_tokens`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from model.engine.block_pool import Content
from model.interface import Completion, Priority, SamplingParams, StreamChunk, TokenLogprob, TokenScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.engine.prompt_lookup import PromptLookup

Event: TypeAlias = "StreamChunk | TokenScore | NDArray[np.float32] | Exception"
Deliver: TypeAlias = Callable[[Any], None]

PATIENCE_S = {"interactive": 0.0, "batch": 30.0}
"""How much earlier an interactive request may have come to go before one of this priority. Finite, so that nothing
waits for ever."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """`values` [len(positions), hidden_size] float32 stand in place of the embeddings at `positions` (rising)."""

    positions: tuple[int, ...]
    values: NDArray[np.float32]


@dataclass(eq=False, kw_only=True, slots=True)
class Request:
    """Tokens to compute, and what to do with the results: generate from them, score some, or hand out a hidden state.

    Attributes:
        request_id: unique in its engine, growing with arrival.
        token_ids: the prompt, then what was generated. For scoring: context and continuation but for the last
            token, which predicts nothing.
        num_prompt_tokens: how many of them came with the request.
        deliver: called from the engine's thread with every result, and once with the last: a `StreamChunk` that has
            a completion, a `TokenScore`, a hidden state, or an exception.
        arrival_s: on the engine's clock; with `priority` it decides the order.
        salt: requests of another salt share no cached prefix.
        params: how to generate, `None` for everything else; `seed`: the seed in use.
        targets: tokens to score: targets[i] follows position first_target_position + i.
        num_top_logprobs: most probable tokens wanted beside each target.
        wants_hidden_state: of the last token.
        vectors: what stands in place of some embeddings.
        forks: requests that begin with all of this one's tokens and go on from its end; then it only serves them.
        trunk: the request this one waits for as a fork.
        num_computed_tokens: tokens whose keys and values are in the cache.
        num_in_flight: tokens after them in steps that were launched and whose results are not known yet.
        block_table: KV blocks held, in order; `contents`: of the leading full ones, as the pool names them.
        num_cached_tokens: of the prompt, when first scheduled: found or shared instead of computed.
        draft_token_ids: guessed to come next, computed with the rest and kept as far as they are right.
    """

    request_id: int
    token_ids: list[int]
    num_prompt_tokens: int
    deliver: Deliver
    arrival_s: float
    priority: Priority = "interactive"
    salt: str = ""
    params: SamplingParams | None = None
    seed: int = 0
    max_tokens: int = 0
    targets: tuple[int, ...] = ()
    first_target_position: int = 0
    num_top_logprobs: int = 0
    wants_hidden_state: bool = False
    vectors: Vectors | None = None
    forks: list[Request] = field(default_factory=list)
    trunk: Request | None = None
    num_computed_tokens: int = 0
    num_in_flight: int = 0
    block_table: list[int] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    num_cached_tokens: int = 0
    draft_token_ids: list[int] = field(default_factory=list)
    lookup: PromptLookup | None = None
    first_scheduled_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    target_logprobs: list[TokenLogprob] = field(default_factory=list)
    target_is_greedy: list[bool] = field(default_factory=list)
    answer_logprobs: list[TokenLogprob] = field(default_factory=list)
    completion: Completion | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_generated(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_left(self) -> int:
        """Tokens to compute, drafts aside."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def rank(self) -> tuple[float, int]:
        """Lower goes first. It never changes, so that who waits longest is first in the end."""
        return self.arrival_s + PATIENCE_S[self.priority], self.request_id

    @property
    def num_slots(self) -> int:
        """Places it takes among the running requests, now or when its forks run; those that only wait for its last
        output never do."""
        return max(1, sum(fork.params is not None or len(fork.targets) > 1 for fork in self.forks))

    @property
    def next_target_position(self) -> int:
        """Position whose output scores the first target not scored yet."""
        return self.first_target_position + len(self.target_logprobs)

    @property
    def num_skippable_tokens(self) -> int:
        """Leading tokens of which only keys and values are needed: they may come from the cache."""
        last = len(self.token_ids) - 1
        return min(last, self.next_target_position) if len(self.target_logprobs) < len(self.targets) else last

    @property
    def num_nameable_tokens(self) -> int:
        """Leading tokens that say what is computed; a vector is no token."""
        return self.vectors.positions[0] if self.vectors else len(self.token_ids)

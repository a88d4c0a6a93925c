"""What a request that scores asks for and gives back."""

from __future__ import annotations

from dataclasses import dataclass

from model.interface.errors import InvalidRequest, is_integer, require
from model.interface.sampling_params import MAX_TOP_LOGPROBS


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """One continuation to score after its context, both as token ids; neither may be empty: position 0 of a sequence
    has no prediction, so whoever scores a whole text supplies a first token. `top_logprobs`: most probable tokens
    wanted at every place, 0 to 20.

    Requests of one call with the same context compute it once.
    """

    context_token_ids: tuple[int, ...]
    continuation_token_ids: tuple[int, ...]
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        require(
            is_integer(self.top_logprobs) and 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
            "top_logprobs",
            self.top_logprobs,
            f"a whole number from 0 to {MAX_TOP_LOGPROBS}",
        )
        if not self.context_token_ids:
            raise InvalidRequest("the context is empty: give at least one token, such as the end-of-document id")
        if not self.continuation_token_ids:
            raise InvalidRequest("the continuation is empty: there is nothing to score")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScore:
    """Scores of one continuation, one entry a token.

    Attributes:
        token_ids: the continuation.
        logprobs: natural-log probability of each token given all before it.
        is_greedy: whether each token is the most probable one at its place.
        top: the most probable (token id, logprob) at each place, if asked for, else empty.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    is_greedy: tuple[bool, ...]
    top: tuple[tuple[tuple[int, float], ...], ...] = ()

    @property
    def loglikelihood(self) -> float:
        """Sum of the log-probabilities."""
        return sum(self.logprobs)

    @property
    def all_greedy(self) -> bool:
        """Whether greedy decoding would have produced the whole continuation."""
        return all(self.is_greedy)

"""What a request that generates gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

FinishReason: TypeAlias = Literal["stop", "length", "abort"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Wall-clock times of one request, in seconds, from its arrival at the engine.

    Attributes:
        queued_s: until its first token was scheduled.
        ttft_s: until its first generated token; `None` if it ended before one.
        total_s: until it finished.
    """

    queued_s: float
    ttft_s: float | None
    total_s: float

    def tokens_per_s(self, num_tokens: int) -> float | None:
        """Decode speed: tokens after the first, over the time since the first; `None` if undefined."""
        if self.ttft_s is None or num_tokens < 2 or self.total_s <= self.ttft_s:
            return None
        return (num_tokens - 1) / (self.total_s - self.ttft_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLogprob:
    """One token's natural-log probability given all before it, and the most probable tokens at its place.

    Attributes:
        token_id, logprob: of the token that stands there.
        top: (token id, logprob), most probable first, as many as were asked for. If the token is among them, both its
            log-probabilities are the same float.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A finished answer.

    Attributes:
        text: what was generated, before any stop string, without end-of-document tokens. A leading space is kept,
            so that prompt + text is the whole document.
        token_ids: every generated id, the stopping one included.
        finish_reason: `stop` (end of document, stop id or stop string), `length` (max_tokens or context full),
            `abort` (the caller went away).
        stop_reason: the stop string or token id that ended it, else `None`.
        num_prompt_tokens: tokens in the prompt.
        seed: the seed that was used, given or drawn; running it again with it gives the same answer.
        timing: see :class:`Timing`.
        logprobs: of the generated tokens, if asked for, else empty.
        prompt_logprobs: of the prompt's tokens from the second on (nothing predicts the first), if asked for.
        num_cached_tokens: prompt tokens whose keys and values were in the cache already.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None
    num_prompt_tokens: int
    seed: int
    timing: Timing
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    num_cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamChunk:
    """What is new since the previous chunk. The last chunk of a stream carries the whole `completion`.

    The texts of all chunks, joined, are `completion.text`; text that may yet turn out to be the start of a stop
    string or an unfinished UTF-8 character is held back until it is decided.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    completion: Completion | None = None

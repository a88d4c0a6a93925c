"""A text with the probability of each of its tokens, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from app.tokens.document import Document
from model.interface import Completion, Tokenizer, TokenLogprob, TokenScore

Part: TypeAlias = Literal["prompt", "answer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredToken:
    """One token of a text.

    Attributes:
        data: its UTF-8 bytes; empty for special tokens.
        logprob: natural logarithm of its probability given all before it; `None` for the first, which nothing predicts.
        top: the most probable (token id, logprob) at its place, most probable first.
    """

    part: Part
    token_id: int
    data: bytes
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()

    @property
    def probability(self) -> float | None:
        """From 0 to 1."""
        return None if self.logprob is None else math.exp(self.logprob)

    @property
    def rank(self) -> int | None:
        """Its place among the most probable, from 1; `None` if it is not among those that were asked for."""
        return next((place for place, (token, _) in enumerate(self.top, start=1) if token == self.token_id), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredText:
    """A prompt and its answer, as one model sees them.

    Attributes:
        model_name: the model's.
        joined: whether the answer's first token begins with the prompt's last characters.
        written_by: in words how the model wrote the answer; empty if it was typed.
    """

    model_name: str
    tokens: tuple[ScoredToken, ...]
    joined: bool = False
    written_by: str = ""

    def part(self, part: Part) -> tuple[ScoredToken, ...]:
        """The tokens of the prompt or of the answer."""
        return tuple(token for token in self.tokens if token.part == part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surprise:
    """How well a model foresaw some tokens.

    Attributes:
        num_tokens: those that have a probability; the figures are over them.
        perplexity: exp of the mean negative log-probability; `None` over no tokens.
        bits_per_byte: the sum of the negative base-2 logarithms over the tokens' bytes, which texts split by different
            tokenizers can be compared by; `None` over no bytes.
    """

    num_tokens: int
    perplexity: float | None
    bits_per_byte: float | None


def surprise(tokens: Sequence[ScoredToken]) -> Surprise:
    """Of these tokens; one of probability 0 makes both figures infinite."""
    logprobs = [token.logprob for token in tokens if token.logprob is not None]
    num_bytes = sum(len(token.data) for token in tokens if token.logprob is not None)
    total = -math.fsum(logprobs)
    return Surprise(
        num_tokens=len(logprobs),
        perplexity=_exp(total / len(logprobs)) if logprobs else None,
        bits_per_byte=total / math.log(2) / num_bytes if num_bytes else None,
    )


def _exp(number: float) -> float:
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def from_score(tokenizer: Tokenizer, document: Document, score: TokenScore | None) -> tuple[ScoredToken, ...]:
    """The tokens of a text that was scored.

    Args:
        score: of all its tokens but the first; `None` if there is only one.
    """
    scored: list[TokenLogprob | None] = [None]
    if score is not None:
        tops = score.top or ((),) * len(score.token_ids)
        scored += [
            TokenLogprob(token_id=token, logprob=logprob, top=top)
            for token, logprob, top in zip(score.token_ids, score.logprobs, tops, strict=True)
        ]
    num_prompt_tokens = len(document.prompt_token_ids)
    return tuple(
        _token(tokenizer, "prompt" if place < num_prompt_tokens else "answer", token, one)
        for place, (token, one) in enumerate(zip(document.token_ids, scored, strict=True))
    )


def from_completion(
    tokenizer: Tokenizer, prompt_token_ids: Sequence[int], completion: Completion
) -> tuple[ScoredToken, ...]:
    """The tokens of a prompt and of what the model wrote after it, end of document included."""
    prompt = zip(prompt_token_ids, (None, *completion.prompt_logprobs), strict=True)
    answer = zip(completion.token_ids, completion.logprobs, strict=True)
    return (
        *(_token(tokenizer, "prompt", token, one) for token, one in prompt),
        *(_token(tokenizer, "answer", token, one) for token, one in answer),
    )


def _token(tokenizer: Tokenizer, part: Part, token_id: int, one: TokenLogprob | None) -> ScoredToken:
    return ScoredToken(
        part=part,
        token_id=token_id,
        data=tokenizer.token_bytes(token_id),
        logprob=None if one is None else one.logprob,
        top=() if one is None else one.top,
    )

"""Guess the next tokens from the text so far: what followed the last n tokens the time before (prompt lookup decoding,
Saxena 2023; n-gram speculation in vLLM). No second model is needed, and wrong guesses cost only their computation."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2
"""Tokens that must match; longer matches are tried first."""


class PromptLookup:
    """Where every n-gram of one growing sequence was last followed by something."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}
        self._num_seen = 0

    def propose(self, token_ids: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may follow `token_ids`, which begin with those of the call before."""
        for end in range(max(1, self._num_seen), len(token_ids)):  # n-grams that something follows
            for size in range(SHORTEST, LONGEST + 1):
                if size <= end:
                    self._follows[tuple(token_ids[end - size : end])] = end
        self._num_seen = len(token_ids)
        for size in range(LONGEST, SHORTEST - 1, -1):
            begin = self._follows.get(tuple(token_ids[-size:])) if size <= len(token_ids) else None
            if begin is not None:
                return list(token_ids[begin : begin + count])
        return []

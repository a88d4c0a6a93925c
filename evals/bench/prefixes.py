"""How much of what is asked is the same: the work that is left when every distinct prefix is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BLOCK_SIZE = 16  # tokens of a KV block; the last one of a sequence is seldom full


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Tokens a model reads for one request; from place `first_row` on it says what comes next."""

    token_ids: tuple[int, ...]
    first_row: int


@dataclass(frozen=True, slots=True)
class Distinct:
    """Distinct prefixes of some readings, and how many of them somebody wants the next token of."""

    prefixes: int
    rows: int


def distinct(readings: Sequence[Reading]) -> Distinct:
    """Count the nodes of the readings' trie: one a distinct prefix."""
    children: dict[tuple[int, int], int] = {}
    wanted: set[int] = set()
    for reading in readings:
        node = 0
        for place, token in enumerate(reading.token_ids):
            node = children.setdefault((node, token), len(children) + 1)
            if place >= reading.first_row:
                wanted.add(node)
    return Distinct(len(children), len(wanted))


def resident_tokens(readings: Sequence[Reading], *, max_num_requests: int, answer_tokens: int = 0) -> int:
    """Tokens of KV cache that hold any `max_num_requests` neighbours together, their common prefixes once."""
    largest = 0
    for start in range(0, len(readings), max_num_requests):
        window = readings[start : start + 2 * max_num_requests]  # holds every run of neighbours that begins in it
        largest = max(largest, distinct(window).prefixes + len(window) * (BLOCK_SIZE + answer_tokens))
    return largest

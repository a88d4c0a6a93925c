"""A scored text as a CSV file."""

from __future__ import annotations

from app.export import CsvCell, to_csv
from app.tokens.scored_text import ScoredText, ScoredToken
from app.tokens.visible import token_name
from model.interface import Tokenizer

COLUMNS = ("model", "part", "position", "token_id", "piece", "bytes", "logprob", "probability", "rank")


def scored_csv(scored: ScoredText, tokenizer: Tokenizer) -> str:
    """One row a token, with its most probable alternatives in columns of their own. What is undefined is empty."""
    num_top = max((len(token.top) for token in scored.tokens), default=0)
    tops = [f"top_{place}_{what}" for place in range(1, num_top + 1) for what in ("id", "piece", "logprob")]

    def cells(place: int, token: ScoredToken) -> list[CsvCell]:
        alternatives: list[CsvCell] = []
        for other, logprob in token.top:
            alternatives += [other, token_name(tokenizer, other), logprob]
        return [
            scored.model_name,
            token.part,
            place,
            token.token_id,
            token_name(tokenizer, token.token_id),
            token.data.hex(" "),
            token.logprob,
            token.probability,
            token.rank,
            *alternatives,
            *[None] * (len(tops) - len(alternatives)),
        ]

    return to_csv([*COLUMNS, *tops], (cells(place, token) for place, token in enumerate(scored.tokens)))

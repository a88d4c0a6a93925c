"""How a model's tokenizer splits a text: ids, pieces and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from app.export import to_csv
from app.tokens.visible import token_name
from model.interface import Engine

MOST_ROWS = 300
"""Rows of a table that are shown; the CSV file has them all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenisation:
    """A text as one model's tokens.

    Attributes:
        tokens: id, visible text and UTF-8 bytes of each.
    """

    model_name: str
    family: str
    vocab_size: int
    tokens: tuple[tuple[int, str, bytes], ...]

    @property
    def num_bytes(self) -> int:
        """Of all tokens."""
        return sum(len(data) for _, _, data in self.tokens)


def tokenise(engine: Engine, token_ids: Sequence[int]) -> Tokenisation:
    """These tokens of the engine's model."""
    tokenizer = engine.tokenizer
    return Tokenisation(
        model_name=engine.info.model_name,
        family=engine.info.family,
        vocab_size=engine.info.vocab_size,
        tokens=tuple((token, token_name(tokenizer, token), tokenizer.token_bytes(token)) for token in token_ids),
    )


def tokenisation_html(tokenisations: Sequence[Tokenisation]) -> str:
    """A table for each model, side by side where there is room."""
    return f'<div class="tokenisations">{"".join(map(_one, tokenisations))}</div>'


def tokenisation_csv(tokenisations: Sequence[Tokenisation]) -> str:
    """One row a model and token."""
    columns = ("model", "family", "position", "token_id", "piece", "bytes")
    return to_csv(
        columns,
        (
            (one.model_name, one.family, place, token, name, data.hex(" "))
            for one in tokenisations
            for place, (token, name, data) in enumerate(one.tokens)
        ),
    )


def _one(one: Tokenisation) -> str:
    count = len(one.tokens)
    per_token = f", {one.num_bytes / count:.2f} bytes a token" if count else ""
    rows = "".join(
        f'<tr><td>{place}</td><td>{token}</td><td class="piece">{escape(name)}</td>'
        f'<td class="bytes">{data.hex(" ") or "none"}</td></tr>'
        for place, (token, name, data) in enumerate(one.tokens[:MOST_ROWS])
    )
    more = f"<p>The first {MOST_ROWS:,} are shown; the CSV file has all.</p>" if count > MOST_ROWS else ""
    name = escape(one.model_name)
    return (
        f'<section aria-label="Tokens of {name}"><h2>{name}</h2>'
        f"<p>{escape(one.family)} family, vocabulary of {one.vocab_size:,}. <strong>{count:,} "
        f"{'token' if count == 1 else 'tokens'}</strong>{per_token}.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of tokens"><table><thead><tr><th>Place</th>'
        f"<th>Id</th><th>Piece</th><th>Bytes</th></tr></thead><tbody>{rows}</tbody></table></div>{more}</section>"
    )

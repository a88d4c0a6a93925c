"""A scored text as HTML: each token on the colour of its probability, with the number under it, and the figures of
prompt and answer.

What a token's alternatives are stands in its `data-top` and is shown by `tokens.js` when the token is chosen. Colours
are one hue from light to dark, so that they are told apart by their lightness alone; `style.css` has them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html import escape

from app.tokens.scored_text import Part, ScoredText, ScoredToken, surprise
from app.tokens.visible import token_name
from model.interface import Tokenizer

MOST_TOKENS = 512
"""Shown at once; a browser takes longer to lay out more than a reader to press a button."""

LEVELS = ((0.9, "90 % or more"), (0.5, "50 to 90 %"), (0.1, "10 to 50 %"), (0.01, "1 to 10 %"), (0.0, "below 1 %"))
"""Least probability of each colour, and what it means."""

_TITLES: dict[Part, str] = {"prompt": "Prompt", "answer": "Answer"}


def level(probability: float | None) -> str:
    """The colour's name: `level-0`, the most probable, to `level-4`; `level-none` for no probability."""
    if probability is None:
        return "level-none"
    return f"level-{next(place for place, (least, _) in enumerate(LEVELS) if probability >= least)}"


def percent(probability: float | None) -> str:
    """A probability in whole percent, as it stands under a token; a dash for none."""
    if probability is None:
        return "–"
    return "<1" if probability < 0.005 else f"{100 * probability:.0f}"


def scored_html(scored: ScoredText, tokenizer: Tokenizer, *, start: int = 0) -> str:
    """The figures, the legend and the tokens from `start` on, at most :data:`MOST_TOKENS`."""
    shown = scored.tokens[start : start + MOST_TOKENS]
    parts: list[str] = [_figures(scored), _legend()]
    first = start
    for part in _TITLES:
        tokens = [token for token in shown if token.part == part]
        if tokens:
            parts.append(_tokens_html(part, tokens, tokenizer, first))
            first += len(tokens)
    parts.append(
        '<div class="token-detail" role="status" aria-live="polite"><p>Choose a token, by pointer or with the arrow '
        "keys, to see what else the model thought of.</p></div>"
    )
    return f'<div class="scored">{"".join(parts)}</div>'


def _figures(scored: ScoredText) -> str:
    rows = "".join(_figure_row(title, scored.part(part)) for part, title in _TITLES.items() if scored.part(part))
    notes = []
    if scored.written_by:
        notes.append(f"The model wrote the answer with {scored.written_by}.")
    if scored.joined:
        notes.append(
            "The answer's first token begins with the prompt's last characters; it is counted as the answer's."
        )
    if scored.tokens and scored.tokens[0].logprob is None:
        notes.append("Nothing comes before the first token, so it has no probability.")
    notes.append("Probabilities are the model's own, before temperature and the other settings.")
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Figures">'
        '<table class="figures"><thead><tr><th>Part</th><th>Tokens</th><th>With a probability</th>'
        f"<th>Perplexity</th><th>Bits per byte</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="subdued">{escape(scored.model_name)}. {escape(" ".join(notes))}</p>'
    )


def _figure_row(title: str, tokens: Sequence[ScoredToken]) -> str:
    figures = surprise(tokens)
    return (
        f'<tr><th scope="row">{title}</th><td>{len(tokens):,}</td><td>{figures.num_tokens:,}</td>'
        f"<td>{number(figures.perplexity)}</td><td>{number(figures.bits_per_byte)}</td></tr>"
    )


def number(value: float | None) -> str:
    """A figure with four digits that count; a dash for what is undefined."""
    if value is None:
        return "–"
    return "infinite" if math.isinf(value) else f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}"


def _legend() -> str:
    keys = [(f"level-{place}", meaning) for place, (_, meaning) in enumerate(LEVELS)]
    shown = "".join(
        f'<li><span class="key {name}" aria-hidden="true"></span>{meaning}</li>'
        for name, meaning in [*keys, ("level-none", "no probability")]
    )
    return (
        f'<ul class="legend" aria-label="Colours: the token\'s probability">{shown}</ul><p class="subdued">Below each '
        "token its probability in percent. ␣ is a blank, ↵ a line end, ⇥ a tab.</p>"
    )


def _tokens_html(part: Part, tokens: Sequence[ScoredToken], tokenizer: Tokenizer, first: int) -> str:
    buttons = "".join(_buttons(tokens, tokenizer, first))
    title = _TITLES[part]
    return f'<h2>{title}</h2><div class="tokens" role="group" aria-label="Tokens of the {part}">{buttons}</div>'


def _buttons(tokens: Sequence[ScoredToken], tokenizer: Tokenizer, first: int) -> Iterator[str]:
    for place, token in enumerate(tokens, start=first):
        name = token_name(tokenizer, token.token_id)
        tops = [(token_name(tokenizer, other), other, _finite(logprob)) for other, logprob in token.top]
        detail = {
            "place": place,
            "id": token.token_id,
            "name": name,
            "logprob": None if token.logprob is None else _finite(token.logprob),
            "top": tops,
        }
        said = "no probability" if token.probability is None else f"{percent(token.probability)} percent"
        yield (
            f'<button type="button" class="token {level(token.probability)}{"" if token.data else " special"}" '
            f'tabindex="{0 if place == first else -1}" aria-label="{escape(name)}, {said}" '
            f'data-token="{escape(json.dumps(detail, ensure_ascii=False))}"><span>{escape(name)}</span>'
            f"<small>{percent(token.probability)}</small></button>"
        )
        if b"\n" in token.data:
            yield '<span class="line-end"></span>'


def _finite(logprob: float) -> float:
    """JSON has no minus infinity; e to this is 0 just the same."""
    return round(max(logprob, -9999.0), 6)

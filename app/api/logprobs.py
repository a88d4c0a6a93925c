"""Log-probabilities as OpenAI's two APIs write them, and where each token stands in its text."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from model.interface import Tokenizer, TokenLogprob

LEAST = -9999.0  # OpenAI's stand-in for minus infinity, which JSON has not


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token's name, another one for other bytes: its text; `bytes:\\xe2\\x82` (as OpenAI's) if it is a piece of a
    character; `token_id:7` if it stands for no text."""
    data = tokenizer.token_bytes(token_id)
    if not data:
        return f"token_id:{token_id}"
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def finite(logprob: float) -> float:
    """The same number, unless JSON cannot hold it."""
    return logprob if logprob >= LEAST else LEAST


class TextOffsets:
    """Where tokens begin in the text that their bytes make, in characters: a token that is a piece of a character
    begins where the character does, so the numbers never fall.

    Args:
        start: characters before the first token.
        skip_blank: whether the text does not have the blank that the first token begins with (SentencePiece puts one
            before a text).
    """

    def __init__(self, tokenizer: Tokenizer, *, start: int = 0, skip_blank: bool = False) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._start = start
        self._skip = int(skip_blank)
        self._num_characters = 0

    def take(self, token_ids: Sequence[int]) -> list[int]:
        """Offsets of the next tokens."""
        offsets = []
        for token in token_ids:
            offsets.append(self._start + max(0, self._num_characters - self._skip))
            self._num_characters += len(self._decoder.decode(self._tokenizer.token_bytes(token)))
        return offsets


def echo_of(tokenizer: Tokenizer, token_ids: Sequence[int], text: str | None) -> tuple[str, list[int]]:
    """A prompt's text and where each of its tokens begins in it.

    Args:
        text: as it was sent, or `None` if token ids were.
    """
    pieces = b"".join(map(tokenizer.token_bytes, token_ids)).decode(errors="replace")
    if text is None:
        # SentencePiece's decoder drops the blank it puts before a text; the bytes have it.
        text = pieces[1:] if pieces == " " + tokenizer.decode(token_ids) else pieces
    skip_blank = pieces != text and pieces == " " + text
    offsets = TextOffsets(tokenizer, skip_blank=skip_blank).take(token_ids)
    return text, [min(offset, len(text)) for offset in offsets]


def completion_logprobs(
    tokenizer: Tokenizer,
    token_ids: Sequence[int],
    logprobs: Sequence[TokenLogprob | None],
    offsets: Sequence[int],
) -> dict[str, Any]:
    """`logprobs` of `/v1/completions`. `None` has no prediction: a document's first token.

    The token itself is among its `top_logprobs`, with the identical number; of several tokens with one name the most
    probable counts.
    """
    tops: list[dict[str, float] | None] = []
    for one in logprobs:
        if one is None:
            tops.append(None)
            continue
        top: dict[str, float] = {}
        for token, logprob in (*one.top, (one.token_id, one.logprob)):
            top.setdefault(token_text(tokenizer, token), finite(logprob))
        tops.append(top)
    return {
        "tokens": [token_text(tokenizer, token) for token in token_ids],
        "token_logprobs": [None if one is None else finite(one.logprob) for one in logprobs],
        "top_logprobs": tops,
        "text_offset": list(offsets),
    }


def chat_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`logprobs` of `/v1/chat/completions`."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.token_bytes(token)
        return {
            "token": token_text(tokenizer, token),
            "logprob": finite(logprob),
            "bytes": list(data) if data else None,
        }

    content = [
        entry(one.token_id, one.logprob) | {"top_logprobs": [entry(token, logprob) for token, logprob in one.top]}
        for one in logprobs
    ]
    return {"content": content, "refusal": None}

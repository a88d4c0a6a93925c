"""Tokens as a reader can tell them apart: blanks, line ends and pieces of characters are seen."""

from __future__ import annotations

from model.interface import Tokenizer

_SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥"}


def visible_text(data: bytes) -> str:
    """The text of UTF-8 bytes, with a sign for each blank, line end and tab; what cannot be printed, or is only a
    piece of a character, as its code (`\\u200b`, `\\xe2`)."""
    text = data.decode("utf-8", errors="backslashreplace")
    return "".join(_SIGNS.get(one) or (one if one.isprintable() else _code(one)) for one in text)


def token_name(tokenizer: Tokenizer, token_id: int) -> str:
    """A token's visible text, or in words what it stands for if it has none."""
    data = tokenizer.token_bytes(token_id)
    if data:
        return visible_text(data)
    if token_id in tokenizer.eos_token_ids:
        return "end of document"
    if token_id == tokenizer.bos_token_id:
        return "beginning of document"
    return f"token {token_id}"


def _code(character: str) -> str:
    number = ord(character)
    return f"\\U{number:08x}" if number > 0xFFFF else f"\\u{number:04x}"

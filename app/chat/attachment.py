"""Text files put into a message, where whoever sends it sees them."""

from __future__ import annotations

from pathlib import PurePath

from model.interface import InvalidRequest

TYPES = {".txt": "", ".md": "markdown", ".csv": "csv"}
"""What may be attached, and the language its code block names."""
MAX_BYTES = 256 * 1024
"""About 65,000 tokens of English: four times the longest context, Persimmon's; a longer file cannot be answered."""


def as_message(name: str, data: bytes) -> str:
    """A file as it stands in a message: its name, then its text in a code block that the text cannot end.

    Raises:
        InvalidRequest: it is of another type, too large, not UTF-8, or empty.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in TYPES:
        raise InvalidRequest(f"{name} cannot be attached: choose a file that ends in {', '.join(TYPES)}")
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{name} has {len(data):,} bytes: a file of at most {MAX_BYTES:,} bytes can be attached")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").strip("\n")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8 text (byte {error.start}): save it as UTF-8 first") from error
    if "\0" in text:
        raise InvalidRequest(f"{name} is not text (it has zero bytes): choose a text file")
    if not text.strip():
        raise InvalidRequest(f"{name} is empty: there is nothing to attach")
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{name}:\n{fence}{TYPES[ending]}\n{text}\n{fence}"

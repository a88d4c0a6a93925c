"""Names and values out of a file that nobody vouches for, made fit for a one-sentence error."""

from __future__ import annotations

LONGEST = 120
MOST_ITEMS = 8
MOST_BITS = 128


def shown(value: object) -> str:
    """A value on one line, without control characters, cut where long; of anything but plain values only the type,
    because to print a value can fail when it was made to (nested without end, numbers of a million digits)."""
    if isinstance(value, (list, tuple)) and len(value) <= MOST_ITEMS:
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return _plain(value)


def some(names: list[str]) -> str:
    """The first of several names, and how many more there are."""
    return shown(names[0]) + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _plain(value: object) -> str:
    if isinstance(value, str):
        text = repr(value[: LONGEST + 1])
    elif not isinstance(value, (BaseException, int, float, type(None))) or (
        isinstance(value, int) and value.bit_length() > MOST_BITS
    ):
        return f"<{type(value).__name__}>"
    else:
        text = str(value)
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"

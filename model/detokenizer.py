"""Token ids to text while they arrive: whole characters only, and nothing that may belong to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from model.interface import Tokenizer


class IncrementalDetokenizer:
    """Text of one request's generated tokens.

    Bytes are joined before they are decoded, so that a character spread over tokens appears once, whole; bytes that
    are no UTF-8 become U+FFFD. The stop string that is complete first, in characters, ends the text, whichever
    tokens carry it; of several complete at the same character the longest counts. Its text and all after it is
    dropped.

    Attributes:
        text: all text given out so far.
        stopped_by: the stop string that ended it, or `None`.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending = ""  # decoded, but perhaps the start of a stop string
        self._parts: list[str] = []
        self.stopped_by: str | None = None

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def push(self, token_ids: Iterable[int]) -> str:
        """New text that can be shown. After a stop string there is none."""
        data = b"".join(self._tokenizer.token_bytes(token) for token in token_ids)
        return self._advance(self._decoder.decode(data), final=False)

    def finish(self) -> str:
        """The text held back, now that no more tokens come."""
        return self._advance(self._decoder.decode(b"", final=True), final=True)

    def _advance(self, new: str, *, final: bool) -> str:
        if self.stopped_by is not None:
            return ""
        self._pending += new
        found = self._first_stop(len(self._pending) - len(new))
        if found is not None:
            start, self.stopped_by = found
            shown, self._pending = self._pending[:start], ""
        else:
            held = 0 if final else self._held_back()
            shown = self._pending[: len(self._pending) - held]
            self._pending = self._pending[len(shown) :]
        if shown:
            self._parts.append(shown)
        return shown

    def _first_stop(self, num_seen: int) -> tuple[int, str] | None:
        """Start and text of the stop string that is complete first; the first `num_seen` characters had none."""
        best: tuple[int, int, str] | None = None
        for stop in self._stop:
            start = self._pending.find(stop, max(0, num_seen - len(stop) + 1))
            if start >= 0 and (best is None or (start + len(stop), start) < best[:2]):
                best = (start + len(stop), start, stop)
        return None if best is None else best[1:]

    def _held_back(self) -> int:
        """Length of the longest end of the pending text that a stop string starts with."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._pending)), longest, -1):
                if self._pending.endswith(stop[:length]):
                    longest = length
                    break
        return longest

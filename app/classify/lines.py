"""A file's lines, one after the other, never the whole file: numbered, decoded, and none of them too long to hold."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from model.interface import InvalidRequest

ENCODINGS = ("utf-8", "cp1252", "iso-8859-1")
MAX_LINE_BYTES = 2**20
SHOWN_OF_A_LONG_LINE = 1000
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file.

    Attributes:
        number: from 1.
        text: decoded, its end included; bytes that do not decode are lone surrogates (`surrogateescape`). Only the
            beginning if the line is too long.
        end: bytes of the file up to its end.
        is_too_long: whether it has more than MAX_LINE_BYTES bytes.
    """

    number: int
    text: str
    end: int
    is_too_long: bool = False


class LineSource:
    """Reads lines of a binary stream, which stays the caller's to close.

    Args:
        encoding: one of ENCODINGS; a byte order mark at the beginning of UTF-8 is no text.

    Raises:
        InvalidRequest: the encoding is not known, or the stream is plainly no text in it (UTF-16, a spreadsheet, …).
    """

    def __init__(self, stream: io.BufferedReader, *, encoding: str) -> None:
        if encoding not in ENCODINGS:
            raise InvalidRequest(f"encoding={encoding!r} is not allowed: use {', '.join(ENCODINGS)}")
        self.encoding = encoding
        self._stream = stream
        self._read = 0
        beginning = stream.peek(2**16)
        if beginning.startswith(_UTF_16) or b"\0" in beginning:
            raise InvalidRequest(
                "the file is not text in one byte a character (it may be UTF-16 or a workbook): save it as UTF-8"
            )
        self.has_bom = encoding == "utf-8" and beginning.startswith(_BOM)
        if self.has_bom:
            self._read += len(stream.read(len(_BOM)))
        self.beginning = beginning.removeprefix(_BOM).decode(encoding, errors="replace")
        """For a look at the dialect: as much as there is without waiting, at most a few kilobytes."""

    def __iter__(self) -> Iterator[Line]:
        number = 0
        while raw := self._stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            self._read += len(raw)
            is_too_long = len(raw) > MAX_LINE_BYTES
            if is_too_long:
                kept = raw[:SHOWN_OF_A_LONG_LINE]
                while raw and not raw.endswith(b"\n"):
                    raw = self._stream.readline(MAX_LINE_BYTES)
                    self._read += len(raw)
                raw = kept
            yield Line(number, raw.decode(self.encoding, errors="surrogateescape"), self._read, is_too_long)


def printable(text: str) -> str:
    """The text with a replacement character for what did not decode."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def encoding_problem(text: str, encoding: str) -> str:
    """Why the text is not what the encoding says; empty if it is."""
    if text.isascii():
        return ""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape has kept
            before = printable(text[max(0, error.start - 12) : error.start])
            return f"it is not {encoding}: byte 0x{code - 0xDC00:02X} after {before!r}"
        return "it has half of a surrogate pair, which is no character"
    return ""

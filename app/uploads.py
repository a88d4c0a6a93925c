"""Files that browsers sent."""

from __future__ import annotations

from pathlib import Path

MAX_UPLOAD_BYTES = 64 * 2**20
"""Of any file: the Classify page takes 100,000 texts of a few sentences; others have lower limits of their own."""


def taken(path: str, *, at_most: int) -> tuple[str, bytes]:
    """An uploaded file's name and content, of which one byte more than `at_most` is read; the file is deleted, so that
    what people send does not stay on the server's disk."""
    file = Path(path)
    try:
        with file.open("rb") as opened:
            return file.name, opened.read(at_most + 1)
    finally:
        file.unlink()

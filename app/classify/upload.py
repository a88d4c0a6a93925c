"""A file that was sent to be classified: a look at its beginning, and the file of its answers."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.classify.answers import AnswersFormat
from app.classify.rows import DELIMITERS, SUFFIXES, TEXT_COLUMN, Format, Row, Table
from model.interface import InvalidRequest

PREVIEWED_ROWS = 8
AUTOMATIC = "automatic"


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A file in the server's cache, and how it is read.

    Attributes:
        delimiter: a name in DELIMITERS, or AUTOMATIC.
    """

    path: Path
    encoding: str = "utf-8"
    delimiter: str = AUTOMATIC

    @property
    def format(self) -> Format:
        """By the file's ending.

        Raises:
            InvalidRequest: it is none of those known.
        """
        found = SUFFIXES.get(self.path.suffix.lower())
        if found is None:
            raise InvalidRequest(f"{self.path.name} is not allowed: give a file ending in {', '.join(SUFFIXES)}")
        return found

    @contextmanager
    def opened(self) -> Iterator[Table]:
        """The table, closed again afterwards.

        Raises:
            InvalidRequest: it cannot be read as one, or is gone.
        """
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            raise InvalidRequest("the file is no longer kept here: choose it again") from None
        with stream:
            yield Table(stream, format=self.format, encoding=self.encoding, delimiter=DELIMITERS.get(self.delimiter))

    def columns(self) -> tuple[str, ...]:
        """Of CSV those of the header; of JSONL those of its first rows; of a text file the one it has.

        Raises:
            InvalidRequest: it cannot be read.
        """
        if self.format == "text":
            return (TEXT_COLUMN,)
        with self.opened() as table:
            if table.columns:
                return table.columns
            rows = list(itertools.islice(table.rows(), PREVIEWED_ROWS))
        names = [name for row in rows if not row.problem or TEXT_COLUMN not in row.cells for name in row.cells]
        if not names:
            raise InvalidRequest(f"the first {PREVIEWED_ROWS} rows of {self.path.name} have no columns: check the file")
        return tuple(dict.fromkeys(names))

    def first_rows(self, column: str) -> list[Row]:
        """A few, with the text in this column.

        Raises:
            InvalidRequest: it cannot be read, or has no such column.
        """
        with self.opened() as table:
            return list(itertools.islice(table.rows(column), PREVIEWED_ROWS))


def answers_path(upload: Upload, cache: Path, format: AnswersFormat) -> Path:
    """Where the answers are written: in a folder of their own in the cache, under a name after the file's."""
    stem = re.sub(r"[^\w-]+", "-", upload.path.stem)[:80].strip("-") or "texts"
    cache.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="answers-", dir=cache)) / f"{stem}-classified.{format}"

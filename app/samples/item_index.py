"""Where each item of a file lies and what it is filtered by, so that a page of items is a few short reads.

A file is read through once, when it is first asked for or has changed; the texts themselves stay on the disk.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from model.interface import InvalidRequest

KEPT_INDEXES = 8
UNREADABLE, TRUNCATED, FAILED = 1, 2, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One item as it was recorded; see `evals/item_record.py`, which writes them."""

    task: str
    item_id: str
    doc_id: int
    cluster: str | None
    prompt: str
    output: str
    answer: str
    gold: str
    scores: dict[str, float]
    unreadable: bool
    truncated: bool
    failed: bool
    error: str | None
    outcome: str | None
    message: str | None
    suspicions: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """What a search looks through."""
        return (self.item_id, self.prompt, self.output, self.answer, self.gold, self.error or "", self.message or "")


@dataclass(slots=True, eq=False)
class ItemIndex:
    """The items of one file by their place in it; equal only to itself, so that results can be kept by it.

    Attributes:
        ends: where each line ends, in bytes. tasks: each item's. scores: each item's, by metric. flags: each item's
            `UNREADABLE`, `TRUNCATED` and `FAILED`. places: by task and item id.
    """

    path: Path
    ends: array[int] = field(default_factory=lambda: array("Q"))
    tasks: list[str] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    flags: bytearray = field(default_factory=bytearray)
    places: dict[tuple[str, str], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tasks)

    def lines(self, places: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """The lines at these places, each with its place."""
        with self.path.open("rb") as stream:
            for place in places:
                start = self.ends[place - 1] if place else 0
                stream.seek(start)
                yield place, stream.read(self.ends[place] - start)

    def items(self, places: Sequence[int]) -> list[Item]:
        """The items at these places."""
        return [_item(self.path, place, line) for place, line in self.lines(places)]


def index_of(path: Path) -> ItemIndex:
    """The file's index, made anew if the file has changed.

    Raises:
        InvalidRequest: it cannot be read, or a line is no item.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise InvalidRequest(f"{_name(path)} cannot be read ({error.strerror}): choose another run") from None
    return _index(path, state.st_mtime_ns, state.st_size)


def parse_item(line: bytes) -> Item:
    """A line as an item.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    raw: dict[str, Any] = json.loads(line)
    return Item(**raw | {"suspicions": tuple(raw["suspicions"])})


@lru_cache(maxsize=KEPT_INDEXES)
def _index(path: Path, changed: int, size: int) -> ItemIndex:
    index = ItemIndex(path)
    known: dict[tuple[tuple[str, float], ...], dict[str, float]] = {}  # equal scores are kept once
    names: dict[str, str] = {}
    end = 0
    with path.open("rb") as stream:
        for place, line in enumerate(stream):
            item = _item(path, place, line)
            end += len(line)
            index.ends.append(end)
            index.tasks.append(names.setdefault(item.task, item.task))
            index.scores.append(known.setdefault(tuple(item.scores.items()), item.scores))
            index.flags.append(UNREADABLE * item.unreadable | TRUNCATED * item.truncated | FAILED * item.failed)
            index.places[index.tasks[-1], item.item_id] = place
    return index


def _item(path: Path, place: int, line: bytes) -> Item:
    try:
        return parse_item(line)
    except (ValueError, TypeError, KeyError):
        raise InvalidRequest(f"{_name(path)}, line {place + 1} is no item: run the evaluation again") from None


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"

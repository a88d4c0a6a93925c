"""Which items are shown: of a run, or of what tells two runs apart."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.samples.item_index import FAILED, TRUNCATED, UNREADABLE, Item, ItemIndex, index_of, parse_item
from app.samples.runs import Run
from model.interface import InvalidRequest

PAGE_SIZE = 20

SHOW: dict[str, str] = {
    "all": "all items",
    "right": "right",
    "wrong": "wrong",
    "unreadable": "unreadable answers",
    "truncated": "truncated answers",
    "failed": "failed items",
}
SHOW_PAIR: dict[str, str] = {
    "a-right-b-wrong": "A right and B wrong",
    "a-wrong-b-right": "A wrong and B right",
    "both-right": "both right",
    "both-wrong": "both wrong",
}
_FLAGS = {"unreadable": UNREADABLE, "truncated": TRUNCATED, "failed": FAILED}
_PAIRS = {
    "a-right-b-wrong": (True, False),
    "a-wrong-b-right": (False, True),
    "both-right": (True, True),
    "both-wrong": (False, False),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What is asked for.

    Attributes:
        run, against: names of runs A and B; no B if empty. task: empty for all. show: of `SHOW`, or with a B also of
            `SHOW_PAIR`. metric: what right and wrong go by; empty for each task's first. text: to be found in an item.
        page: from 1.
    """

    run: str
    against: str = ""
    task: str = ""
    show: str = "all"
    metric: str = ""
    text: str = ""
    page: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """A page of what fits.

    Attributes:
        items: A's, with B's of the same task and id, `None` where there is no B or it lacks the item.
        num_fitting: on all pages. num_items: of run A. page: the one that is shown; num_pages.
        not_compared: tasks whose items in B are others.
    """

    items: tuple[tuple[Item, Item | None], ...]
    num_fitting: int
    num_items: int
    page: int
    num_pages: int
    not_compared: tuple[str, ...] = ()


def find(runs: Mapping[str, Run], query: Query) -> Page:
    """The page of items that is asked for; the last one where there are fewer.

    Raises:
        InvalidRequest: there is no such run or choice, or a file cannot be read.
    """
    run = _run(runs, query.run)
    other = _run(runs, query.against) if query.against else None
    if query.show not in SHOW and (query.show not in SHOW_PAIR or other is None):
        raise InvalidRequest(f"show={query.show!r} is not allowed: choose {', '.join(SHOW)}, or two runs")
    index = index_of(run.items)
    other_index = None if other is None else index_of(other.items)
    different = _different(run, other)
    metrics = tuple((task, metric_of(run, task, query.metric)) for task in run.tasks)
    places = _fitting(index, other_index, metrics, different, query.task, query.show, query.text)
    num_pages = max(1, -(-len(places) // PAGE_SIZE))
    page = min(max(1, query.page), num_pages)
    shown = places[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    items = index.items(shown)
    return Page(
        items=tuple(zip(items, _others(items, other_index, different), strict=True)),
        num_fitting=len(places),
        num_items=len(index),
        page=page,
        num_pages=num_pages,
        not_compared=different,
    )


def is_right(scores: Mapping[str, float], metric: str) -> bool | None:
    """Whether a metric says so; `None` where it says nothing, as of a failed item."""
    return None if metric not in scores else scores[metric] == 1


def metric_of(run: Run, task: str, chosen: str) -> str:
    """What right and wrong go by."""
    return chosen or (next(iter(run.tasks[task].metrics), "") if task in run.tasks else "")


def _run(runs: Mapping[str, Run], name: str) -> Run:
    if name not in runs:
        raise InvalidRequest(f"there is no run {name!r} with items: choose one of the list")
    return runs[name]


def _different(run: Run, other: Run | None) -> tuple[str, ...]:
    """Tasks of both whose items are not the same."""
    if other is None:
        return ()
    return tuple(
        task
        for task, summary in run.tasks.items()
        if task in other.tasks and other.tasks[task].items_sha256 != summary.items_sha256
    )


def _others(items: Iterable[Item], index: ItemIndex | None, different: Sequence[str]) -> list[Item | None]:
    if index is None:
        return [None for _ in items]
    places = [None if item.task in different else index.places.get((item.task, item.item_id)) for item in items]
    return [None if place is None else index.items([place])[0] for place in places]


@lru_cache(maxsize=64)
def _fitting(
    index: ItemIndex,
    other: ItemIndex | None,
    metrics: tuple[tuple[str, str], ...],
    different: tuple[str, ...],
    task: str,
    show: str,
    text: str,
) -> array[int]:
    """The places of all items that fit; kept, so that turning a page looks at nothing twice.

    Args:
        metrics: of each task, what right and wrong go by.
    """
    metric = dict(metrics)
    places = [place for place, name in enumerate(index.tasks) if not task or name == task]
    if show in _FLAGS:
        places = [place for place in places if index.flags[place] & _FLAGS[show]]
    elif show in ("right", "wrong"):
        wanted = show == "right"
        places = [
            place for place in places if is_right(index.scores[place], metric.get(index.tasks[place], "")) is wanted
        ]
    elif other is not None and show in _PAIRS:
        keys = {place: key for key, place in index.places.items()}
        places = [
            place
            for place in places
            if index.tasks[place] not in different
            and _verdicts(index, other, place, keys[place], metric.get(index.tasks[place], "")) == _PAIRS[show]
        ]
    return array("Q", _holding(index, places, text) if text else places)


def _verdicts(
    index: ItemIndex, other: ItemIndex, place: int, key: tuple[str, str], metric: str
) -> tuple[bool | None, bool | None]:
    """Of one item of A, and of B's with the same task and id."""
    mine = is_right(index.scores[place], metric)
    return mine, is_right(other.scores[other.places[key]], metric) if key in other.places else None


def _holding(index: ItemIndex, places: Sequence[int], text: str) -> list[int]:
    """Those with the text in one of their own, upper and lower case being the same."""
    wanted = text.lower()
    # A line that lacks the text as JSON writes it need not be read as JSON.
    written = json.dumps(wanted, ensure_ascii=False)[1:-1]
    found = []
    for place, line in index.lines(places):
        if written in line.decode("utf-8").lower() and any(wanted in one.lower() for one in parse_item(line).texts):
            found.append(place)
    return found

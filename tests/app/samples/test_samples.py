"""The sample browser: every kind of item is found, a page reads only its items, texts are shown as they are."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import item_records, other_model, run_record, scored_run, task_record, write_run

from app.samples.item_index import index_of, parse_item
from app.samples.query import PAGE_SIZE, Page, Query, find
from app.samples.runs import list_runs
from app.samples.view import count_text, page_html, verdict
from evals.item_record import ItemRecord, read_items
from model.interface import InvalidRequest

TASK = "adept_arc_easy"
RIGHT = [True, False] * 30  # of run a, by item
OTHER = [True, True, False] * 20  # of run b


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a and b over the same items, and run c over others."""
    folder = tmp_path_factory.mktemp("results")
    scored_run(folder, "a", {TASK: RIGHT, "adept_triviaqa": [True] * 5}, started="2026-01-03T00:00:00+00:00")
    scored_run(folder, "b", {TASK: OTHER}, model=other_model(), started="2026-01-02T00:00:00+00:00")
    scored_run(folder, "c", {TASK: [True] * 7}, started="2026-01-01T00:00:00+00:00")
    return folder


def ids(page: Page) -> list[int]:
    return [item.doc_id for item, _ in page.items]


def all_ids(results: Path, **query: Any) -> list[int]:
    runs = list_runs(results)
    first = find(runs, Query(**query))
    return [
        place for page in range(1, first.num_pages + 1) for place in ids(find(runs, Query(**query | {"page": page})))
    ]


def hostile(**changes: Any) -> ItemRecord:
    return replace(item_records(TASK, [False])[0], **changes)


def written(folder: Path, items: Sequence[ItemRecord]) -> dict[str, Any]:
    write_run(folder, run_record("one", task_record(TASK, [True] * len(items))), items)
    return {"runs": list_runs(folder), "query": Query(run="one")}


def test_runs_are_listed_the_newest_first(results: Path) -> None:
    (results / "runs" / "unfinished").mkdir(exist_ok=True)
    runs = list_runs(results)
    assert list(runs) == ["a", "b", "c"]
    assert runs["b"].label == "llama-2-7b, raw prompts, engine, 2026-01-02 00:00"


def test_the_projects_own_runs_are_read() -> None:
    runs = list_runs(Path(__file__).parents[3] / "results")
    assert runs
    run = next(iter(runs.values()))
    page = find(runs, Query(run=run.name))
    records = list(read_items(run.items))
    assert page.num_fitting == page.num_items == len(records)
    assert [asdict(item) for item, _ in page.items] == [asdict(record) for record in records[:PAGE_SIZE]]


@pytest.mark.parametrize(
    ("show", "wanted"),
    [
        ("a-right-b-wrong", (True, False)),
        ("a-wrong-b-right", (False, True)),
        ("both-right", (True, True)),
        ("both-wrong", (False, False)),
    ],
)
def test_two_runs_are_told_apart(results: Path, show: str, wanted: tuple[bool, bool]) -> None:
    expected = [place for place, pair in enumerate(zip(RIGHT, OTHER, strict=True)) if pair == wanted]
    assert all_ids(results, run="a", against="b", show=show) == expected
    page = find(list_runs(results), Query(run="a", against="b", show=show))
    assert all(other is not None and other.item_id == item.item_id for item, other in page.items)


def test_right_wrong_and_tasks(results: Path) -> None:
    assert all_ids(results, run="a", task=TASK, show="wrong") == [place for place, one in enumerate(RIGHT) if not one]
    assert len(all_ids(results, run="a", show="right")) == sum(RIGHT) + 5
    assert len(all_ids(results, run="a")) == len(RIGHT) + 5
    assert all_ids(results, run="a", metric="no such metric", show="right") == []


def test_other_items_are_not_compared(results: Path) -> None:
    page = find(list_runs(results), Query(run="a", against="c", show="both-right"))
    assert page.items == ()
    assert page.not_compared == (TASK,)
    page = find(list_runs(results), Query(run="a", against="c"))
    assert all(other is None for _, other in page.items)


@pytest.mark.parametrize("kind", ["unreadable", "truncated", "failed"])
def test_what_went_wrong_is_found(tmp_path: Path, kind: str) -> None:
    items = [replace(item, item_id=str(place)) for place, item in enumerate(item_records(TASK, [True, False, False]))]
    items[1] = replace(items[1], **{kind: True}, scores={} if kind == "failed" else items[1].scores)
    found = written(tmp_path, items)
    page = find(found["runs"], replace(found["query"], show=kind))
    assert [item.item_id for item, _ in page.items] == ["1"]
    assert kind in verdict(page.items[0][0], "exact_match")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ÉCOLE", [0]),
        ('say "hi"', [1]),
        ("two\nlines", [2]),
        ("back\\slash", [3]),
        ("item-4", [4]),
        ("prompt", []),  # a key of every line, in no item's text
        ("suspicion", []),
        ("\x1b[31m", [5]),
    ],
)
def test_a_text_is_found_wherever_it_stands(tmp_path: Path, text: str, wanted: list[int]) -> None:
    items = item_records(TASK, [True] * 6)
    items[0] = replace(items[0], prompt="une école")
    items[1] = replace(items[1], output='They say "Hi".')
    items[2] = replace(items[2], output="Two\nlines")
    items[3] = replace(items[3], message="a back\\slash", outcome="failed")
    items[5] = replace(items[5], output="\x1b[31m red")
    found = written(tmp_path, items)
    assert ids(find(found["runs"], replace(found["query"], text=text))) == wanted


def test_pages(results: Path) -> None:
    runs = list_runs(results)
    assert all_ids(results, run="a", task=TASK) == list(range(len(RIGHT)))
    last = find(runs, Query(run="a", task=TASK, page=99))
    assert (last.page, last.num_pages) == (3, 3)
    assert count_text(last) == "41 to 60 of 60 that fit, of 65 items"
    assert count_text(find(runs, Query(run="a", text="nowhere"))) == "0 of 65 items"


def test_turning_a_page_reads_only_its_items(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = list_runs(results)
    find(runs, Query(run="a", page=1))
    read: list[int] = []
    own = type(index_of(runs["a"].items)).lines
    monkeypatch.setattr(
        "app.samples.item_index.ItemIndex.lines",
        lambda self, places: (read.extend(places), own(self, places))[1],
    )
    find(runs, Query(run="a", page=2))
    assert read == list(range(PAGE_SIZE, 2 * PAGE_SIZE))


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    found = written(tmp_path, item_records(TASK, [True] * 3))
    assert find(found["runs"], found["query"]).num_items == 3
    path = found["runs"]["one"].items
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert find(found["runs"], found["query"]).num_items == 2


def test_what_cannot_be_shown_is_said(tmp_path: Path, results: Path) -> None:
    runs = list_runs(results)
    for query, sentence in (
        (Query(run="../../etc"), "there is no run '../../etc'"),
        (Query(run="a", against="d"), "there is no run 'd'"),
        (Query(run="a", show="both-right"), "show='both-right' is not allowed"),
    ):
        with pytest.raises(InvalidRequest, match=re.escape(sentence)):
            find(runs, query)
    found = written(tmp_path, item_records(TASK, [True] * 2))
    with found["runs"]["one"].items.open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(InvalidRequest, match=r"one/items\.jsonl, line 3 is no item"):
        find(found["runs"], found["query"])


def test_everything_is_shown_as_it_was_recorded(tmp_path: Path) -> None:
    item = hostile(
        prompt="<script>alert(1)</script>\n\n\n## $$x$$ `code`",
        output="<img src=https://example.org/x>\r\n\n",
        gold="a\n\nb",
        outcome="failed",
        message="AssertionError: <b>\n\nline",
        suspicions=("reads the test",),
    )
    found = written(tmp_path, [item])
    page = page_html(find(found["runs"], found["query"]), found["query"], found["runs"])
    assert not any(tag in page for tag in ("<script", "<img", "<b>", "\n", "\r"))
    shown = html.unescape(page)
    for text in (item.prompt, item.output, item.gold, item.message, "reads the test"):
        assert str(text) in shown


def test_items_are_written_as_they_are_read_here() -> None:
    """The contract with `evals`: every key of a line is an attribute here."""
    record = hostile(suspicions=("x",))
    assert asdict(parse_item(json.dumps(asdict(record)).encode())) == asdict(record)

"""Sources of items: the three give the same rows, shots are fixed, and each bad row gives one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals import data
from evals.data import DEMO_FOLDER, HELD_OUT_SHOTS, choose_shot, content_sha256
from evals.errors import DataError
from evals.tasks.arc import arc_easy


def ids(rows: Any) -> list[str]:
    return [row["id"] for row in rows]


def test_folder_with_a_shot_file(items: Path) -> None:
    rows = arc_easy(data=str(items), shots=1)["test"]
    assert ids(rows) == [f"item-{number}" for number in range(12)]
    assert {row["shot"]["id"] for row in rows} <= {f"item-{number}" for number in range(100, 105)}
    assert len({row["shot"]["id"] for row in rows}) > 1
    assert "shot" not in arc_easy(data=str(items))["test"].features


def test_folder_without_a_shot_file_holds_rows_out(
    write_items: Callable[..., Path], make_item: Callable[..., Any]
) -> None:
    rows = [make_item(number) for number in range(50)]
    folder = str(write_items(rows))
    scored = arc_easy(data=folder, shots=1)["test"]
    assert len(scored) == 50 - HELD_OUT_SHOTS
    pool = {row["id"] for row in rows} - set(ids(scored))
    assert {row["shot"]["id"] for row in scored} <= pool
    for other in (arc_easy(data=folder, shots=0)["test"], arc_easy(data=folder, shots=1, seed=5)["test"]):
        assert ids(other) == ids(scored)
    shuffled = arc_easy(data=str(write_items(rows[::-1], folder="other")))["test"]
    assert ids(shuffled) == ids(scored)[::-1]


def test_shot_depends_on_the_item_and_the_seed_alone(
    write_items: Callable[..., Path], make_item: Callable[..., Any]
) -> None:
    rows = [make_item(number) for number in range(60)]
    pool = [make_item(number) for number in range(100, 130)]

    def shots(scored: list[Any], shot_rows: list[Any], seed: int = 0) -> dict[str, str]:
        write_items(shot_rows, name="arc_easy_shots")
        loaded = arc_easy(data=str(write_items(scored)), shots=1, seed=seed)["test"]
        return {row["id"]: row["shot"]["id"] for row in loaded}

    fixed = shots(rows, pool)
    assert shots(rows[::-1], pool[::-1]) == fixed
    few = shots(rows[7:9], pool)
    assert few.items() <= fixed.items()
    assert shots(rows, pool, seed=1) != fixed
    assert len(set(fixed.values())) > 10


def test_shot_is_never_the_item_itself(make_item: Callable[..., Any]) -> None:
    pool = [make_item(number) for number in range(3)]
    for seed in range(20):
        for item in pool:
            assert choose_shot(item, pool, seed=seed)["id"] != item["id"]
    renamed = make_item(0) | {"id": "another-id"}
    with pytest.raises(DataError, match="'item-0' has no shot"):
        choose_shot(make_item(0), [make_item(0), renamed], seed=0)


def test_labels_become_letters(write_items: Callable[..., Path], make_item: Callable[..., Any]) -> None:
    digits = make_item(0) | {"choices": {"text": ["w", "x", "y"], "label": ["1", "2", "3"]}, "answerKey": "3"}
    five = make_item(1, key="E", num_choices=5)
    write_items([make_item(9)], name="arc_easy_shots")
    rows = arc_easy(data=str(write_items([digits, five])))["test"]
    assert rows[0]["choices"] == {"text": ["w", "x", "y"], "label": ["A", "B", "C"]}
    assert [row["answerKey"] for row in rows] == ["C", "E"]


def test_hub_gives_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, write_items: Callable[..., Path], make_item: Callable[..., Any]
) -> None:
    import datasets

    test, train = ([make_item(n) for n in numbers] for numbers in (range(8), range(20, 30)))
    asked = []

    def load_dataset(*arguments: str) -> Any:
        asked.append(arguments)
        return {name: datasets.Dataset.from_list(rows) for name, rows in (("test", test), ("train", train))}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub = arc_easy(shots=1)["test"]
    assert asked == [("allenai/ai2_arc", "ARC-Easy")]
    write_items(train, name="arc_easy_shots")
    folder = arc_easy(data=str(write_items(test)), shots=1)["test"]
    assert list(hub) == list(folder)
    assert content_sha256(hub) == content_sha256(folder) == content_sha256(arc_easy()["test"])


def test_hub_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*_: str) -> Any:
        raise ConnectionError("no route\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as failed:
        arc_easy()
    assert "allenai/ai2_arc ARC-Easy could not be loaded from the Hub (ConnectionError: no route)" in str(failed.value)
    assert "\n" not in str(failed.value)


GOOD = {"id": "x", "question": "q?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{not json", r"arc_easy.jsonl, line 2 is not JSON"),
        ("[1]", r"line 2 is a list: it must be an object"),
        (GOOD | {"id": None}, r"line 2, column id: None is not allowed"),
        (GOOD | {"id": "first"}, r"line 2, column id: 'first' already stands at arc_easy.jsonl, line 1"),
        (GOOD | {"question": "  "}, r"line 2, column question: '  ' is not allowed: it must be text"),
        ({k: v for k, v in GOOD.items() if k != "choices"}, r"line 2, column choices is missing"),
        (GOOD | {"choices": ["a", "b"]}, r"line 2, column choices: a list is not allowed"),
        (GOOD | {"choices": {"text": ["a"]}}, r"line 2, column choices.label is missing"),
        (GOOD | {"choices": {"text": ["a"], "label": ["A", "B"]}}, r"line 2, column choices: 1 texts but 2 labels"),
        (GOOD | {"choices": {"text": ["a"], "label": ["A"]}}, r"line 2, column choices: 1 choices are not 2 to 26"),
        (GOOD | {"choices": {"text": ["a", "b"], "label": ["A", "A"]}}, r"column choices.label: .* repeats a label"),
        (GOOD | {"choices": {"text": ["a", ""], "label": ["A", "B"]}}, r"column choices.text: '' is not allowed"),
        (GOOD | {"answerKey": "C"}, r"line 2, column answerKey: 'C' is not one of the labels A, B"),
        (GOOD | {"answerKey": 1}, r"line 2, column answerKey: 1 is not allowed"),
    ],
)
def test_bad_row_names_file_line_column_and_rule(
    write_items: Callable[..., Path], make_item: Callable[..., Any], bad: Any, message: str
) -> None:
    write_items([make_item(1)], name="arc_easy_shots")
    folder = write_items([GOOD | {"id": "first"}, bad])
    with pytest.raises(DataError, match=message) as failed:
        arc_easy(data=str(folder))
    assert "\n" not in str(failed.value)


def test_bad_folder(write_items: Callable[..., Path], make_item: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be 'hub', 'demo' or an existing folder"):
        arc_easy(data=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"arc_easy.jsonl is missing from other/"):
        arc_easy(data=str(write_items([GOOD], name="arc_challenge", folder="other")))
    with pytest.raises(DataError, match=r"has 3 rows and there is no arc_easy_shots.jsonl"):
        arc_easy(data=str(write_items([make_item(number) for number in range(3)])))
    write_items(["", " "], name="arc_easy", folder="empty")
    with pytest.raises(DataError, match="has no rows"):
        arc_easy(data=str(tmp_path / "empty"))
    (tmp_path / "empty" / "arc_easy.jsonl").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(DataError, match=r"arc_easy.jsonl is not UTF-8"):
        arc_easy(data=str(tmp_path / "empty"))
    with pytest.raises(DataError, match="shots=2 is not allowed"):
        arc_easy(data=str(tmp_path / "empty"), shots=2)


def test_bundled_items(monkeypatch: pytest.MonkeyPatch, items: Path) -> None:
    assert DEMO_FOLDER.parts[-3:] == ("evals", "data", "demo")
    monkeypatch.setattr(data, "DEMO_FOLDER", items)
    assert len(arc_easy(data="demo")["test"]) == 12


def test_bundled_items_are_good() -> None:
    rows = arc_easy(data="demo", shots=1)["test"]
    assert len(rows) >= 20
    shots = (DEMO_FOLDER / "arc_easy_shots.jsonl").read_text(encoding="utf-8").splitlines()
    assert not set(ids(rows)) & {json.loads(line)["id"] for line in shots}


def test_real_items(real_items: Path) -> None:
    rows = arc_easy(data=str(real_items), shots=1)["test"]
    assert len(rows) == 1782 - HELD_OUT_SHOTS
    assert len({row["shot"]["id"] for row in rows}) == HELD_OUT_SHOTS

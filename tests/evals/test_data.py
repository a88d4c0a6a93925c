"""Sources of items: the three give the same rows, shots are fixed, and each bad row gives one clear sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals import data
from evals.data import DEMO_FOLDER, content_sha256
from evals.errors import DataError
from evals.shots import HELD_OUT_SHOTS, ShotPool
from evals.tasks import items as benchmarks
from evals.tasks.items import BENCHMARKS, arc_easy


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
    shots = ShotPool(BENCHMARKS["arc_easy"], pool)
    for seed in range(20):
        for item in pool:
            assert shots.choose(item, seed=seed)["id"] != item["id"]
    renamed = make_item(0) | {"id": "another-id"}
    with pytest.raises(DataError, match="'item-0' has no shot"):
        ShotPool(BENCHMARKS["arc_easy"], [make_item(0), renamed]).choose(make_item(0), seed=0)


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


@pytest.mark.parametrize("name", BENCHMARKS)
def test_bundled_items_are_good(name: str) -> None:
    rows = getattr(benchmarks, name)(data="demo", shots=1)["test"]
    assert len(rows) >= 20
    text = BENCHMARKS[name].text_column
    assert not {content_sha256([row | {"id": ""}]) for row in rows} & {
        content_sha256([row["shot"] | {"id": ""}]) for row in rows
    }
    assert all(row[text] != row["shot"][text] for row in rows)


@pytest.mark.parametrize(
    ("name", "scored", "pool"),
    [
        ("arc_easy", 1782 - HELD_OUT_SHOTS, HELD_OUT_SHOTS),
        ("arc_challenge", 879 - HELD_OUT_SHOTS, HELD_OUT_SHOTS),
        ("winogrande", 951 - HELD_OUT_SHOTS, HELD_OUT_SHOTS),
        ("triviaqa", 2250 - HELD_OUT_SHOTS, HELD_OUT_SHOTS),
        ("mmlu", 211 - 57, 55),  # one shot a subject; two subjects have a single row, which nothing is left to use
        ("humaneval", 123, 123),  # other problems are the shots
    ],
)
def test_real_items(real_items: Path, name: str, scored: int, pool: int) -> None:
    rows = getattr(benchmarks, name)(data=str(real_items), shots=1)["test"]
    assert len(rows) == scored
    shots = {row["shot"]["id"] for row in rows}
    assert pool // 2 < len(shots) <= pool
    assert name == "humaneval" or not shots & set(ids(rows))
    assert all(row["shot"]["id"] != row["id"] for row in rows)
    if name == "mmlu":
        assert all(row["shot"]["subject"] == row["subject"] for row in rows)


MMLU = {"question": "2 + 2?", "subject": "sums", "choices": ["3", "4", "5", "6"], "answer": 1}
WINOGRANDE = {"sentence": "The _ was red.", "option1": "hat", "option2": "sky", "answer": "1"}
TRIVIA = {"question_id": "t/1", "question": "Who?", "answer": {"value": "Me", "aliases": ["I"]}}
HUMANEVAL = {
    "task_id": "H/0",
    "prompt": "def f():\n",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
    "entry_point": "f",
}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("mmlu", MMLU | {"answer": 4}, r"mmlu.jsonl, line 1, column answer: 4 is not a place from 0 to 3"),
        ("mmlu", MMLU | {"answer": "B"}, r"line 1, column answer: a str is not allowed"),
        ("mmlu", MMLU | {"answer": True}, r"line 1, column answer: True is not a place"),
        ("mmlu", MMLU | {"choices": ["3"]}, r"line 1, column choices: 1 choices are not 2 to 26"),
        ("mmlu", MMLU | {"subject": ""}, r"line 1, column subject: '' is not allowed"),
        ("winogrande", WINOGRANDE | {"sentence": "No blank."}, r"column sentence: 'No blank.' must have one _"),
        ("winogrande", WINOGRANDE | {"sentence": "_ and _."}, r"must have one _ where the word is missing"),
        ("winogrande", WINOGRANDE | {"answer": ""}, r"column answer: '' is not allowed: it must be '1' or '2'"),
        ("triviaqa", TRIVIA | {"answer": {"value": "Me"}}, r"column answer.aliases is missing"),
        ("triviaqa", TRIVIA | {"answer": "Me"}, r"column answer: a str is not allowed"),
        ("humaneval", HUMANEVAL | {"entry_point": "f()"}, r"column entry_point: 'f\(\)' is no Python name"),
        ("humaneval", HUMANEVAL | {"test": None}, r"column test: None is not allowed"),
    ],
)
def test_bad_rows_of_other_benchmarks(write_items: Callable[..., Path], name: str, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        getattr(benchmarks, name)(data=str(write_items([row], name=name)))


def test_a_shot_has_its_items_subject(write_items: Callable[..., Path]) -> None:
    rows = [MMLU | {"question": f"{n}?", "subject": f"s{n % 3}"} for n in range(12)]
    loaded = benchmarks.mmlu(data=str(write_items(rows, name="mmlu")), shots=1)["test"]
    assert len(loaded) == 12 - 3
    assert all(row["shot"]["subject"] == row["subject"] for row in loaded)
    write_items([MMLU | {"subject": "other"}], name="mmlu_shots")
    with pytest.raises(DataError, match="has no shot: the pool holds no other row of subject 's0'"):
        benchmarks.mmlu(data=str(write_items(rows, name="mmlu")), shots=1)
    with pytest.raises(DataError, match="give a shot file, or more than 1 rows of each subject, of which 1 become"):
        benchmarks.mmlu(data=str(write_items([MMLU, MMLU | {"subject": "b"}], name="mmlu", folder="few")))


def test_rows_without_ids_may_be_there_twice(write_items: Callable[..., Path]) -> None:
    write_items([WINOGRANDE | {"sentence": "A _."}], name="winogrande_shots")
    rows = benchmarks.winogrande(data=str(write_items([WINOGRANDE] * 3, name="winogrande")))["test"]
    first = rows[0]["id"]
    assert ids(rows) == [first, f"{first}#2", f"{first}#3"]
    assert first.startswith("winogrande/")


def test_humanevals_shot_is_another_problem(write_items: Callable[..., Path]) -> None:
    rows = [HUMANEVAL | {"task_id": f"H/{n}", "prompt": f"def f{n}():\n"} for n in range(4)]
    loaded = benchmarks.humaneval(data=str(write_items(rows, name="humaneval")), shots=1)["test"]
    assert len(loaded) == 4
    assert all(row["shot"]["id"] != row["id"] for row in loaded)

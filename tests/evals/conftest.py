"""Shared by the evaluation's tests: invented items, scripted engines, and where the real items and checkpoint are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evals import environment

environment.prepare(offline=True)

from scripted_engine import ScriptedEngine  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

Item = dict[str, Any]


def _item(number: int, *, key: str = "A", num_choices: int = 4) -> Item:
    return {
        "id": f"item-{number}",
        "question": f"Which lamp is number {number}?",
        "choices": {
            "text": [f"lamp {number}-{choice}" for choice in range(num_choices)],
            "label": list("ABCDEFGH"[:num_choices]),
        },
        "answerKey": key,
    }


@pytest.fixture
def make_item() -> Callable[..., Item]:
    """Builds one invented item of ARC's form."""
    return _item


@pytest.fixture
def write_items(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as `<name>.jsonl` into a folder and gives the folder."""

    def write(rows: list[Any], *, name: str = "arc_easy", folder: str = "items") -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        (target / f"{name}.jsonl").write_text(text, encoding="utf-8")
        return target

    return write


@pytest.fixture
def items(write_items: Callable[..., Path]) -> Path:
    """A folder of 12 items whose keys go A, B, C, D, A, ... and a shot file of 5."""
    write_items([_item(number, key="ABCD"[number % 4]) for number in range(100, 105)], name="arc_easy_shots")
    return write_items([_item(number, key="ABCD"[number % 4]) for number in range(12)])


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedEngine]]:
    """Opens scripted engines and closes them after the test."""
    opened: list[ScriptedEngine] = []

    def make(answer: Callable[[str], str] = lambda prompt: " B\n", **options: Any) -> ScriptedEngine:
        opened.append(ScriptedEngine(answer, **options))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


@pytest.fixture(scope="session")
def real_items() -> Path:
    """The folder of real items beside the repository; the test skips without it."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "arc_easy.jsonl").is_file():
        pytest.skip("no real items in ../shared/data")
    return folder


@pytest.fixture(scope="session")
def bundled_checkpoint() -> Path:
    """The bundled demonstration checkpoint."""
    return ROOT / "model" / "demo" / "persimmon-demo"

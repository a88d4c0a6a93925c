"""Hidden states are asked of the engine once, and found again after a stop, a restart or more rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scripted_engine import ScriptedEngine

from model.finetune.classify import states as module
from model.finetune.classify.states import hidden_states

TEXTS = [f"text number {'x' * index}" for index in range(7)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedEngine]:
    monkeypatch.setattr(module, "CHUNK", 3)
    engine = ScriptedEngine(hidden_state=lambda prompt: (float(len(prompt)), 1.0, -0.5))
    yield engine
    engine.close()


def ask(engine: ScriptedEngine, cache: Path, texts: list[str] = TEXTS) -> tuple[np.ndarray, list[int], int]:
    """The states, the progress told, and how often the engine was asked."""
    before, told = len(engine.priorities), []
    found = hidden_states(engine, texts, cache=cache, on_chunk=told.append)
    return found, told, len(engine.priorities) - before


def test_once_computed_they_are_found_again(engine: ScriptedEngine, tmp_path: Path) -> None:
    expected = np.array([[len(text), 1.0, -0.5] for text in TEXTS], dtype=np.float32)
    first, told, asked = ask(engine, tmp_path / "new" / "cache")
    np.testing.assert_array_equal(first, expected)
    assert first.dtype == np.float32
    assert (told, asked) == ([3, 6, 7], 3)
    assert set(engine.priorities) == {"batch"}
    again, told, asked = ask(engine, tmp_path / "new" / "cache")
    np.testing.assert_array_equal(again, expected)
    assert (told, asked) == ([3, 6, 7], 0)
    _, _, asked = ask(engine, tmp_path / "new" / "cache", [*TEXTS, "more", "and more"])
    assert asked == 1  # the last chunk is another


def test_a_stopped_run_keeps_its_chunks(engine: ScriptedEngine, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hidden_states(engine, TEXTS, cache=tmp_path, on_chunk=stop)
    assert ask(engine, tmp_path)[2] == 1
    assert not list(tmp_path.glob("*.part"))


def test_damaged_files_are_computed_again(engine: ScriptedEngine, tmp_path: Path) -> None:
    expected = ask(engine, tmp_path)[0]
    torn, wrong, empty = sorted(tmp_path.iterdir())
    torn.write_bytes(torn.read_bytes()[:100])
    np.save(wrong, np.zeros((2, 3)))
    empty.write_bytes(b"")
    found, _, asked = ask(engine, tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert asked == 3


def test_other_weights_are_other_states(engine: ScriptedEngine, tmp_path: Path) -> None:
    ask(engine, tmp_path)
    import dataclasses

    other = ScriptedEngine(hidden_state=lambda prompt: (0.0, 0.0, 0.0))
    other._info = dataclasses.replace(other._info, weights_sha256="9" * 64)
    try:
        found, _, asked = ask(other, tmp_path)
    finally:
        other.close()
    assert asked == 3
    assert not found.any()

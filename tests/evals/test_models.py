"""Names of models, and what a record says about one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import ScriptedEngine

from evals.errors import EvaluationError
from evals.model_names import BUNDLED_FOLDER, bundled_checkpoints, find_checkpoint, is_bundled, is_endpoint
from evals.models import engine_model, with_chat_format

Open = Callable[..., ScriptedEngine]


def test_bundled_checkpoints_come_with_the_subject_first() -> None:
    names = bundled_checkpoints()
    assert names[0] == "persimmon-demo"
    assert all((BUNDLED_FOLDER / name / "config.json").is_file() for name in names)


@pytest.mark.parametrize("name", ["persimmon-demo", "model/demo/persimmon-demo", "hf:persimmon-demo"])
def test_a_bundled_name_needs_no_folder(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_bundled(name)
    assert Path(find_checkpoint(name.removeprefix("hf:"))) == BUNDLED_FOLDER / "persimmon-demo"


@pytest.mark.parametrize("name", ["adept/persimmon-8b-chat", "adept/persimmon-demo", "facts.py", "http://x/v1"])
def test_other_names_stay_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(name) == name
    assert not is_bundled(name)


def test_a_folder_of_ones_own_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "persimmon-demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("persimmon-demo") == "persimmon-demo"
    assert not is_bundled("persimmon-demo")


def test_endpoints() -> None:
    assert is_endpoint("http://127.0.0.1:8000/v1")
    assert is_endpoint("https://example.org/v1#model")
    assert not is_endpoint("adept/persimmon-8b-base")


def test_chat_format_is_part_of_the_identity(scripted: Open) -> None:
    model = engine_model(scripted())
    assert with_chat_format(model, False).model["chat_format"] is None
    assert with_chat_format(model, True).model["chat_format"] == "persimmon"
    without: Any = engine_model(scripted())
    object.__setattr__(without, "chat_format", None)
    with pytest.raises(EvaluationError, match="scripted-engine has no chat format in this back-end"):
        with_chat_format(without, True)

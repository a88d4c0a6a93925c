"""The Hub's code path, with the Hub's client replaced: what is asked for, and what its errors become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from model.checkpoint.errors import CheckpointError
from model.checkpoint.source import resolve
from model.open_engine import DEMO_CHECKPOINT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """A repository of given files; records what was asked for."""

    def __init__(self, folder: Path, files: list[str]) -> None:
        self.folder, self.files = folder / COMMIT, files
        self.calls: list[tuple[str, str | None, list[str]]] = []
        self.folder.mkdir()

    def download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.calls.append((repo_id, revision, allow_patterns))
        for file in self.files:
            if any(Path(file).match(pattern) for pattern in allow_patterns):
                (self.folder / file).touch()
        return str(self.folder)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_only_what_is_needed_is_fetched(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"safetensors": ["model-00001-of-00001.safetensors"], "bin": []}[kind]
    hub = FakeHub(tmp_path, ["config.json", "pytorch_model-00001-of-00001.bin", "modeling_evil.py", *weights])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.download)
    source = resolve("adept/persimmon-8b-chat", revision="main")
    assert (source.folder, source.name, source.revision) == (hub.folder, "adept/persimmon-8b-chat", COMMIT)
    assert {call[:2] for call in hub.calls} == {("adept/persimmon-8b-chat", "main")}
    fetched = {file.name for file in hub.folder.iterdir()}
    assert fetched == {"config.json", *(weights or ["pytorch_model-00001-of-00001.bin"])}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (GatedRepoError, "is gated on the Hub: accept its licence"),
        (RepositoryNotFoundError, "is not on the Hub"),
        (OSError, "could not be fetched from the Hub"),
    ],
)
def test_errors_are_one_sentence(error: Any, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> str:
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=sentence):
        resolve("owner/name")


def test_folders_inside_the_project_are_named_without_the_machine() -> None:
    assert resolve(str(DEMO_CHECKPOINT)).name == "model/demo/persimmon-demo"

"""The engine's thread works on the model's GPU."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from model.engine.engine import LocalEngine
from model.engine.model_runner import ModelRunner
from model.open_engine import open_engine


def test_the_models_gpu_is_the_threads(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    runner = engine._core.runner
    runner.use_device()
    assert not chosen
    monkeypatch.setattr(runner, "device", torch.device("cuda", 1))
    runner.use_device()
    assert chosen == [torch.device("cuda", 1)]


def test_the_engines_thread_asks_for_it(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    monkeypatch.setattr(ModelRunner, "use_device", lambda self: threads.append(threading.current_thread().name))
    open_engine(str(random_checkpoint), device="cpu").close()
    assert threads == ["engine"]

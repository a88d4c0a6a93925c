"""Work in a thread that ends."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest
import torch

from model.engine.engine import LocalEngine
from model.interface import SamplingParams
from model.open_engine import DEMO_CHECKPOINTS, open_engines
from model.own_thread import in_own_thread


def test_gives_the_result_of_another_thread_which_is_gone() -> None:
    thread = in_own_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_raises_what_the_work_raises() -> None:
    def work() -> None:
        raise KeyError("this one")

    with pytest.raises(KeyError, match="this one"):
        in_own_thread(work)


@pytest.mark.parametrize(("checkpoints", "expected"), [(DEMO_CHECKPOINTS[:1], 2), (DEMO_CHECKPOINTS[:2], 1)])
def test_engines_opened_together_share_the_threads(checkpoints: tuple[Path, ...], expected: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    engines = open_engines([str(checkpoint) for checkpoint in checkpoints], device="cpu", kv_cache_tokens=64)
    try:
        assert [threads_of(engine) for engine in engines] == [expected] * len(engines)
    finally:
        for engine in engines:
            engine.close()
        torch.set_num_threads(before)


def threads_of(engine: LocalEngine) -> int:
    """Torch's threads in the engine's own thread, after a step."""
    engine.generate(["3"], SamplingParams(max_tokens=1))
    found: queue.SimpleQueue[int] = queue.SimpleQueue()
    engine._commands.put(lambda: found.put(torch.get_num_threads()))
    return found.get(timeout=10)

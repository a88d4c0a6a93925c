"""The load's samples: rates from counts, and an end once nothing runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_engine import ScriptedEngine

from app.system.history import EVERY_S, KEPT_S, LoadHistory
from model.interface import SamplingParams


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine(lambda prompt: "x" * 39)
    yield engine
    engine.close()


def test_the_rate_is_of_the_tokens_between_two_samples(engine: ScriptedEngine) -> None:
    times = iter([10.0, 14.0, 18.0])
    history = LoadHistory({"a": engine}, clock=lambda: next(times))
    history.sample()
    engine.generate(["hi"], SamplingParams())
    history.sample()
    history.sample()
    assert [(sample.time_s, sample.tokens_per_s) for sample in history.of("a")] == [
        (10.0, None),
        (14.0, 10.0),  # 40 tokens, the end of the document among them, in 4 s
        (18.0, 0.0),
    ]


def test_ten_minutes_are_kept(engine: ScriptedEngine) -> None:
    seconds = iter(range(0, 10_000, int(EVERY_S)))
    history = LoadHistory({"a": engine}, clock=lambda: float(next(seconds)))
    for _ in range(400):
        history.sample()
    samples = history.of("a")
    assert samples[-1].time_s - samples[0].time_s == KEPT_S


def test_sampling_ends_when_all_engines_are_closed(engine: ScriptedEngine) -> None:
    other = ScriptedEngine()
    history = LoadHistory({"a": engine, "b": other})
    other.close()
    assert history.sample()
    engine.close()
    assert not history.sample()
    assert (len(history.of("a")), len(history.of("b"))) == (1, 0)

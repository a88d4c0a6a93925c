"""The counter of live rows: padding rows of a captured step and the captures themselves do not count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_devices import LateDevice, PromptDevice
from torch import Tensor, nn

from app.system.facts import load_facts
from kernels.sparse_down import sparse_down_projection_reference
from model.checkpoint.loaded import LoadedModel, load_checkpoint
from model.engine.cuda_graphs import DecodeGraphs, batch_sizes
from model.engine.engine import LocalEngine
from model.engine.live_rows import LiveRows
from model.interface import EngineStats, SamplingParams
from model.layers.forward_batch import ForwardBatch
from model.layers.ops import REFERENCE
from model.open_engine import open_engine

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
GREEDY = SamplingParams(max_tokens=9, temperature=0.0, ignore_eos=True)


def _skipping(states: Tensor, matrix: nn.Linear, batch: ForwardBatch) -> tuple[Tensor, Tensor | None]:
    """As `model.layers.triton_ops.TRITON`, by the reference."""
    return (
        sparse_down_projection_reference(
            states, matrix.weight.T, live_counter=batch.live_counter, is_token=batch.is_token
        ).sum(dim=0),
        matrix.bias,
    )


def _load(checkpoint: str, *, ops: Any, **options: Any) -> LoadedModel:
    ops = replace(REFERENCE, name="skipping", squared_relu_linear=_skipping, reads_columns=True)
    return load_checkpoint(checkpoint, ops=ops, **options)


@pytest.fixture
def open_skipping(random_checkpoint: Path) -> Iterator[Callable[..., LocalEngine]]:
    engines: list[LocalEngine] = []

    def opened() -> LocalEngine:
        engines.append(
            open_engine(
                str(random_checkpoint), device="cpu", block_size=4, max_num_requests=8, kv_cache_tokens=512, load=_load
            )
        )
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("device_class", [PromptDevice, LateDevice])
def test_padding_and_captures_do_not_count(
    open_skipping: Callable[..., LocalEngine], device_class: type[PromptDevice]
) -> None:
    """Three answers run in a bucket of four: the counts are those of steps of three."""
    plain = open_skipping()
    expected = plain.generate(PROMPTS, GREEDY)
    stats = plain.stats()
    # The prompts are nine tokens, more than are counted but in the last layer, which computes their ends alone; eight
    # steps of three tokens follow. There are three layers of 96 rows.
    assert stats.num_rows == 96 + 8 * 3 * 96
    assert 0 < stats.num_live_rows < stats.num_rows
    assert stats.live_fraction == stats.num_live_rows / stats.num_rows

    engine = open_skipping()
    core = engine._core
    core.graphs = DecodeGraphs(core.runner, device_class(), sizes=batch_sizes(8), max_blocks=32)
    assert engine.stats().num_rows == 0
    found = engine.generate(PROMPTS, GREEDY)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert core.graphs.num_replays == 8
    assert (engine.stats().num_live_rows, engine.stats().num_rows) == (stats.num_live_rows, stats.num_rows)


def test_an_engine_that_skips_nothing_counts_nothing(engine: LocalEngine) -> None:
    engine.generate([[5, 6, 7]], GREEDY)
    assert engine._core.runner.live_rows is None
    assert engine.stats().live_fraction is None
    assert load_facts(engine.info, engine.stats())["Second MLP matrices"] == "read whole so far"


def test_the_page_shows_the_share(engine: LocalEngine) -> None:
    stats: EngineStats = replace(engine.stats(), num_live_rows=25, num_rows=200)
    assert load_facts(engine.info, stats)["Second MLP matrices"].startswith("12.5 % of their rows")


def test_counts_stay_after_the_engine_was_closed(open_skipping: Callable[..., LocalEngine]) -> None:
    engine = open_skipping()
    engine.generate(PROMPTS, GREEDY)
    before = engine.stats().num_rows
    engine.close()
    assert engine.stats().num_rows == before > 0


def test_forgetting() -> None:
    rows = LiveRows(torch.device("cpu"))
    rows.counter += 3
    assert rows.now() == rows.latest() == (3, 3)
    rows.forget()
    assert rows.now() == (0, 0)

"""Several models in one process: names, and parts of the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.engine import memory_plan
from model.engine.memory_plan import CacheNeed, plan_memory, shares
from model.interface import EngineError, InvalidRequest
from model.layers.kv_cache import KVCacheShape
from model.open_engine import open_engines

SIZES = st.integers(0, 10**12)


@given(st.lists(SIZES, min_size=1, max_size=5), SIZES)
def test_shares_waste_nothing_and_favour_nobody(wanted: list[int], free: int) -> None:
    parts = shares(wanted, free)
    assert all(0 <= part <= want for part, want in zip(parts, wanted, strict=True))
    short = [part for part, want in zip(parts, wanted, strict=True) if part < want]
    if sum(wanted) <= free:
        assert parts == wanted
    else:
        assert sum(parts) == free
        # Who gets less than it wants gets as much as anybody, but for a byte that cannot be split.
        assert min(short) >= max(parts) - 1


def test_no_memory_is_no_share() -> None:
    assert shares([5, 3], -7) == [0, 0]


def test_caches_of_one_process_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = [
        CacheNeed(KVCacheShape(num_layers=2, num_kv_heads=heads, head_dim=8), context_length)
        for heads, context_length in ((2, 64), (4, 4096))
    ]
    tokens = [need.shape.bytes_per_token(torch.float32) for need in needs]
    free = 1_000_000

    def plan(kv_cache_tokens: int | None) -> list[memory_plan.MemoryPlan]:
        return plan_memory(
            needs,
            max_num_requests=2,
            block_size=16,
            dtype=torch.float32,
            device=torch.device("cpu"),
            kv_cache_tokens=kv_cache_tokens,
        )

    monkeypatch.setattr(memory_plan, "_free_bytes", lambda device: free)
    small, large = plan(None)
    assert small.num_tokens == 2 * 64
    assert free - 16 * tokens[1] < small.bytes_total + large.bytes_total <= free
    assert [one.num_tokens for one in plan(100)] == [112, 112]
    with pytest.raises(EngineError, match=r"the KV cache needs .* give it fewer tokens or free memory"):
        plan(free // sum(tokens) + 1)
    with pytest.raises(EngineError, match="the KV cache needs"):
        plan(0)


def test_engines_are_opened_together_under_different_names(random_checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(random_checkpoint)
    engines = open_engines([str(random_checkpoint), str(other)], device="cpu", kv_cache_tokens=256)
    try:
        assert [engine.info.model_name for engine in engines] == [random_checkpoint.name, "other"]
    finally:
        for engine in engines:
            engine.close()
    with pytest.raises(InvalidRequest, match=f"two checkpoints are named {random_checkpoint.name!r}"):
        open_engines([str(random_checkpoint), f"{random_checkpoint}/"], device="cpu")

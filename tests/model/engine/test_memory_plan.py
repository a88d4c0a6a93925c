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


def test_a_gpu_is_filled_up_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    need = CacheNeed(KVCacheShape(num_layers=2, num_kv_heads=2, head_dim=8), 4096)
    total, weights, workspace = 10_000_000, 3_000_000, 500_000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (total - weights, total))

    def plan(share: float, kv_cache_tokens: int | None = None) -> memory_plan.MemoryPlan:
        return plan_memory(
            [need],
            max_num_requests=64,
            block_size=16,
            dtype=torch.bfloat16,
            device=torch.device("cuda", 0),
            kv_cache_tokens=kv_cache_tokens,
            gpu_memory_utilization=share,
            workspace_bytes=workspace,
        )[0]

    block = 16 * need.shape.bytes_per_token(torch.bfloat16)
    for share in (0.5, 0.9, 1.0):
        room = share * total - weights - workspace
        assert room - block < plan(share).bytes_total <= room
    for share, tokens in ((0.3, None), (0.5, 16_000)):
        with pytest.raises(EngineError, match=r"may be used on cuda:0: .* or raise --gpu-memory-utilization"):
            plan(share, tokens)


def test_the_workspace_of_the_8b_model_is_small_beside_it() -> None:
    size = memory_plan.step_workspace_bytes(
        hidden_size=4096,
        intermediate_size=16384,
        vocab_size=262144,
        max_num_batched_tokens=2048,
        max_num_requests=64,
        dtype=torch.bfloat16,
    )
    assert size == 2048 * (7 * 4096 + 2 * 16384) * 2 + 64 * 262144 * (2 + 8)


@pytest.mark.parametrize("share", [0.0, 0.05, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(random_checkpoint: Path, share: float) -> None:
    with pytest.raises(InvalidRequest, match=r"gpu_memory_utilization=.* give a share from 0.1 to 1"):
        open_engines([str(random_checkpoint)], device="cpu", gpu_memory_utilization=share)


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

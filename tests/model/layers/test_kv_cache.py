"""The cache's memory on a CPU: zeros, and taken block by block."""

from __future__ import annotations

import psutil
import pytest
import torch

from model.layers.kv_cache import KVCacheShape

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_it_is_zero_and_can_be_written(dtype: torch.dtype) -> None:
    caches = KVCacheShape(num_layers=2, num_kv_heads=3, head_dim=5).allocate(
        num_blocks=7, block_size=4, dtype=dtype, device=CPU
    )
    tensors = [tensor for cache in caches for tensor in (cache.key, cache.value)]
    assert [(tuple(tensor.shape), tensor.dtype) for tensor in tensors] == [((7, 4, 3, 5), dtype)] * 4
    assert not any(tensor.any() for tensor in tensors)
    assert all(tensor.is_contiguous() and tensor.data_ptr() % 64 == 0 for tensor in tensors)
    tensors[1][3] = 2.0
    assert [float(tensor.float().sum()) for tensor in tensors] == [0.0, 2.0 * 4 * 3 * 5, 0.0, 0.0]


def test_memory_is_taken_when_a_block_is_written() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    (cache,) = KVCacheShape(num_layers=1, num_kv_heads=8, head_dim=128).allocate(
        num_blocks=8192, block_size=16, dtype=torch.float32, device=CPU
    )
    assert cache.key.nbytes == 512 << 20
    assert process.memory_info().rss - before < 8 << 20
    cache.key[100:612] = 1.0
    assert 24 << 20 < process.memory_info().rss - before < 48 << 20

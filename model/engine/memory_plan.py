"""How many KV blocks there is room for, of one model or of several in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from model.interface import EngineError
from model.layers.kv_cache import KVCacheShape

GPU_MEMORY_UTILIZATION = 0.9  # share of a GPU's memory for weights, cache and workspace, as vLLM's default
CPU_MEMORY_SHARE = 0.25  # of what is available after loading, so that the rest of a laptop goes on working


@dataclass(frozen=True, slots=True)
class CacheNeed:
    """A model's cache: what a token takes of it, and the longest context in tokens."""

    shape: KVCacheShape
    context_length: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`num_blocks` counts the null block; `bytes_total` is the whole cache's size."""

    num_blocks: int
    block_size: int
    bytes_total: int

    @property
    def num_tokens(self) -> int:
        """Tokens the cache holds."""
        return (self.num_blocks - 1) * self.block_size

    def __str__(self) -> str:
        return (
            f"KV cache: {self.num_blocks - 1} blocks of {self.block_size} tokens hold {self.num_tokens} tokens in "
            f"{self.bytes_total / 1e9:.2f} GB"
        )


def plan_memory(
    caches: Sequence[CacheNeed],
    *,
    max_num_requests: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
    kv_cache_tokens: int | None,
) -> list[MemoryPlan]:
    """Blocks of the caches of all models of this process, whose weights are loaded: for `kv_cache_tokens` tokens each
    if given, else for as many as are useful and fit the free memory, see :func:`shares`.

    Useful is `max_num_requests` whole contexts.

    Raises:
        EngineError: the tokens asked for do not fit, or nothing does.
    """
    free = _free_bytes(device)
    block_bytes = [cache.shape.bytes_per_token(dtype) * block_size for cache in caches]
    wanted = [
        max_num_requests * -(-cache.context_length // block_size)
        if kv_cache_tokens is None
        else -(-kv_cache_tokens // block_size)
        for cache in caches
    ]
    least = [1] * len(caches) if kv_cache_tokens is None else [max(blocks, 1) for blocks in wanted]
    parts = shares([(blocks + 1) * size for blocks, size in zip(wanted, block_bytes, strict=True)], free)
    fitting = [part // size - 1 for part, size in zip(parts, block_bytes, strict=True)]
    if any(blocks < enough for blocks, enough in zip(fitting, least, strict=True)):
        needed = sum((blocks + 1) * size for blocks, size in zip(least, block_bytes, strict=True))
        raise EngineError(
            f"the KV cache needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB may be used on {device}: give it fewer "
            "tokens or free memory"
        )
    return [
        MemoryPlan(blocks + 1, block_size, (blocks + 1) * size)
        for blocks, size in zip(fitting, block_bytes, strict=True)
    ]


def shares(wanted: Sequence[int], free: int) -> list[int]:
    """Of `free` bytes, those for each: equal parts, but nobody gets more than it wants, and what it leaves goes to the
    others."""
    parts = [0] * len(wanted)
    for num_served, place in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        parts[place] = max(0, min(wanted[place], free // (len(wanted) - num_served)))
        free -= parts[place]
    return parts


def _free_bytes(device: torch.device) -> int:
    """Bytes the cache may take on `device`, with the weights already there."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(free - (1 - GPU_MEMORY_UTILIZATION) * total)
    return int(psutil.virtual_memory().available * CPU_MEMORY_SHARE)

"""How many KV blocks there is room for, of one model or of several in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from model.interface import EngineError
from model.layers.kv_cache import KVCacheShape

GPU_MEMORY_UTILIZATION = 0.9
"""Default share of a GPU's memory for weights, workspace and cache, as vLLM's; the rest is left to captured graphs and
other programs."""
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
    gpu_memory_utilization: float = GPU_MEMORY_UTILIZATION,
    workspace_bytes: int = 0,
) -> list[MemoryPlan]:
    """Blocks of the caches of all models of this process, whose weights are loaded: for `kv_cache_tokens` tokens each
    if given, else for as many as are useful and fit the free memory, see :func:`shares`.

    Useful is `max_num_requests` whole contexts. On a GPU, `gpu_memory_utilization` is the share of its memory that may
    be used for everything, and `workspace_bytes` what a step needs beside weights and cache.

    Raises:
        EngineError: the tokens asked for do not fit, or nothing does.
    """
    free = _free_bytes(device)
    if device.type == "cuda":
        total = torch.cuda.mem_get_info(device)[1]
        free -= int((1 - gpu_memory_utilization) * total) + workspace_bytes
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
            f"the KV cache needs {needed / 1e9:.2f} GB and {max(free, 0) / 1e9:.2f} GB may be used on {device}: give "
            f"it fewer tokens or free memory{_or_a_larger_share(device)}"
        )
    return [
        MemoryPlan(blocks + 1, block_size, (blocks + 1) * size)
        for blocks, size in zip(fitting, block_bytes, strict=True)
    ]


def _or_a_larger_share(device: torch.device) -> str:
    return ", or raise --gpu-memory-utilization" if device.type == "cuda" else ""


def shares(wanted: Sequence[int], free: int) -> list[int]:
    """Of `free` bytes, those for each: equal parts, but nobody gets more than it wants, and what it leaves goes to the
    others."""
    parts = [0] * len(wanted)
    for num_served, place in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        parts[place] = max(0, min(wanted[place], free // (len(wanted) - num_served)))
        free -= parts[place]
    return parts


def step_workspace_bytes(
    *,
    hidden_size: int,
    intermediate_size: int,
    vocab_size: int,
    max_num_batched_tokens: int,
    max_num_requests: int,
    dtype: torch.dtype,
) -> int:
    """Memory of a step beside weights and cache, from above: of a layer, the residual stream, its norm, queries, keys,
    values, what is attended, and the MLP's inner states twice; then the logits of every answer, as they are computed
    and in float32, with a copy to draw from."""
    layer = max_num_batched_tokens * (7 * hidden_size + 2 * intermediate_size) * dtype.itemsize
    logits = max_num_requests * vocab_size * (dtype.itemsize + 2 * torch.float32.itemsize)
    return layer + logits


def _free_bytes(device: torch.device) -> int:
    """Bytes that are free on a GPU, with the weights already there, or that may be used of a computer's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available * CPU_MEMORY_SHARE)

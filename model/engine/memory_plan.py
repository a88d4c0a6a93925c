"""How many KV blocks there is room for."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from model.interface import EngineError
from model.layers.kv_cache import KVCacheShape

GPU_MEMORY_UTILIZATION = 0.9  # share of a GPU's memory for weights, cache and workspace, as vLLM's default
CPU_MEMORY_SHARE = 0.25  # of what is available after loading, so that the rest of a laptop goes on working


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
    shape: KVCacheShape,
    *,
    context_length: int,
    max_num_requests: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
    kv_cache_tokens: int | None,
) -> MemoryPlan:
    """Blocks for `kv_cache_tokens` tokens if given, else for as many as are useful and fit the free memory.

    Useful is `max_num_requests` whole contexts.

    Raises:
        EngineError: the tokens asked for do not fit, or nothing does.
    """
    block_bytes = shape.bytes_per_token(dtype) * block_size
    blocks_per_context = -(-context_length // block_size)
    free = _free_bytes(device)
    fitting = free // block_bytes - 1
    if kv_cache_tokens is None:
        blocks = min(max_num_requests * blocks_per_context, fitting)
    else:
        blocks = -(-kv_cache_tokens // block_size)
    if blocks < 1 or blocks > fitting:
        raise EngineError(
            f"the KV cache needs {max(blocks, 1) * block_bytes / 1e9:.2f} GB and {free / 1e9:.2f} GB may be used on "
            f"{device}: give it fewer tokens or free memory"
        )
    return MemoryPlan(blocks + 1, block_size, (blocks + 1) * block_bytes)


def _free_bytes(device: torch.device) -> int:
    """Bytes the cache may take on `device`, with the weights already there."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(free - (1 - GPU_MEMORY_UTILIZATION) * total)
    return int(psutil.virtual_memory().available * CPU_MEMORY_SHARE)

"""The paged key-value cache: two tensors a layer, cut into blocks that sequences own one by one."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.paged_attention_cpu import Workspace


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's cache: `key` and `value` are [num_blocks, block_size, num_kv_heads, head_dim]; all layers share one
    `workspace`."""

    key: Tensor
    value: Tensor
    workspace: Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class KVCacheShape:
    """What a family needs for each token: num_layers x 2 x num_kv_heads x head_dim values."""

    num_layers: int
    num_kv_heads: int
    head_dim: int

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        """Bytes one token takes in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * dtype.itemsize

    def allocate(
        self, *, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> list[LayerCache]:
        """One cache a layer, zeroed: masked slots are multiplied by probability 0, and 0 x NaN is NaN.

        On a CPU, memory is taken when a block is first written.
        """
        shape = (num_blocks, block_size, self.num_kv_heads, self.head_dim)
        zeros = _untouched_zeros if device.type == "cpu" else torch.zeros
        workspace = Workspace()
        return [
            LayerCache(zeros(shape, dtype=dtype, device=device), zeros(shape, dtype=dtype, device=device), workspace)
            for _ in range(self.num_layers)
        ]


def _untouched_zeros(shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros in pages that the system gives when they are first touched; `torch.zeros` touches all of them."""
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)  # lives as long as the tensor
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).view(shape)

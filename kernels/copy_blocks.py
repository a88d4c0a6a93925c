"""Copy blocks of a paged KV cache: where two sequences part inside a block, each goes on in its own."""

from __future__ import annotations

from torch import Tensor


def copy_blocks_reference(key_cache: Tensor, value_cache: Tensor, *, pairs: Tensor) -> None:
    """Copy whole blocks, in place.

    Args:
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        pairs: [num_copies, 2] int64, from and to; no block is both.
    """
    source, destination = pairs.unbind(dim=1)
    key_cache.index_copy_(0, destination, key_cache[source])
    value_cache.index_copy_(0, destination, value_cache[source])

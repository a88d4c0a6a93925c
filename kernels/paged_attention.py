"""Attention over a paged KV cache: the definition, in plain torch, and the path every CPU takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def write_kv_reference(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, *, slot_mapping: Tensor
) -> None:
    """Store new keys and values in their slots, in place.

    Args:
        key, value: [num_tokens, num_kv_heads, head_dim], the cache's dtype.
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        slot_mapping: [num_tokens] int64, block * block_size + offset.
    """
    key_cache.flatten(0, 1).index_copy_(0, slot_mapping, key)
    value_cache.flatten(0, 1).index_copy_(0, slot_mapping, value)


def paged_attention_reference(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    query_start_loc: Tensor,
    seq_lens: Tensor,
    block_tables: Tensor,
    scale: float,
) -> Tensor:
    """Causal attention of packed new tokens over the cached keys and values of their sequences.

    The new tokens' own keys must be in the cache already. The last query of a sequence stands at seq_len - 1.

    Args:
        query: [num_tokens, num_heads, head_dim].
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim]; num_heads is a multiple of
            num_kv_heads.
        query_start_loc: [num_seqs + 1] int64; seq_lens: [num_seqs] int64.
        block_tables: [num_seqs, max_blocks] int64.
        scale: factor on the dot products.

    Returns:
        [num_tokens, num_heads, head_dim], query's dtype.
    """
    output = torch.empty_like(query)
    starts: list[int] = query_start_loc.tolist()
    lengths: list[int] = seq_lens.tolist()
    single = [i for i in range(len(lengths)) if starts[i + 1] - starts[i] == 1]
    if single:
        _attend_single_queries(
            query,
            key_cache,
            value_cache,
            output,
            rows=query_start_loc[:-1] if len(single) == len(lengths) else query_start_loc[single],
            seq_lens=seq_lens if len(single) == len(lengths) else seq_lens[single],
            block_tables=block_tables if len(single) == len(lengths) else block_tables[single],
            max_seq_len=max(lengths[i] for i in single),
            scale=scale,
        )
    for i, seq_len in enumerate(lengths):
        start, end = starts[i], starts[i + 1]
        if end - start > 1:
            key = _gather(key_cache, block_tables[i : i + 1], seq_len)
            value = _gather(value_cache, block_tables[i : i + 1], seq_len)
            num_cached = seq_len - (end - start)
            mask = None
            if num_cached:
                mask = torch.ones(end - start, seq_len, dtype=torch.bool, device=query.device).tril(num_cached)
            attended = F.scaled_dot_product_attention(
                query[start:end].transpose(0, 1)[None],
                key,
                value,
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=query.shape[1] != key_cache.shape[2],
            )  # [1, num_heads, query_len, head_dim]
            output[start:end] = attended[0].transpose(0, 1)
    return output


def _gather(cache: Tensor, block_tables: Tensor, max_seq_len: int) -> Tensor:
    """Contiguous copy of cached entries: [num_seqs, num_kv_heads, max_seq_len, head_dim]."""
    num_blocks = -(-max_seq_len // cache.shape[1])
    pages = cache[block_tables[:, :num_blocks]]  # [num_seqs, num_blocks, block_size, num_kv_heads, head_dim]
    return pages.flatten(1, 2)[:, :max_seq_len].transpose(1, 2)


def _attend_single_queries(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    output: Tensor,
    *,
    rows: Tensor,
    seq_lens: Tensor,
    block_tables: Tensor,
    max_seq_len: int,
    scale: float,
) -> None:
    """All sequences with one new token at once, padded to the longest; writes output[rows]."""
    key = _gather(key_cache, block_tables, max_seq_len)
    value = _gather(value_cache, block_tables, max_seq_len)
    visible = torch.arange(max_seq_len, device=query.device) < seq_lens[:, None]
    attended = F.scaled_dot_product_attention(
        query[rows][:, :, None],
        key,
        value,
        attn_mask=visible[:, None, None],
        scale=scale,
        enable_gqa=query.shape[1] != key_cache.shape[2],
    )  # [num_seqs, num_heads, 1, head_dim]
    output[rows] = attended[:, :, 0]

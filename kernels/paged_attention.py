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
    alibi_slopes: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Causal attention of packed new tokens over the cached keys and values of their sequences.

    The new tokens' own keys must be in the cache already. The last query of a sequence stands at seq_len - 1. Every
    query sees at least itself, but for those of a sequence of length 0, a padding row, whose output is 0: a row that is
    masked altogether is NaN in some of torch's CUDA kernels.

    Args:
        query: [num_tokens, num_heads, head_dim]; tokens after the last sequence's are padding, with the result 0.
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim]; num_heads is a multiple of
            num_kv_heads.
        query_start_loc: [num_seqs + 1] int64, anywhere in `query`; seq_lens: [num_seqs] int64.
        block_tables: [num_seqs, max_blocks] int64.
        scale: factor on the dot products.
        alibi_slopes: [num_heads] float32; score(q, k) gets slope * (k - q) added (Press et al. 2022). The sum is made
            in fp32 whatever the dtype, because distances in bf16 are exact only to 256.
        out: [num_tokens, num_heads, head_dim], written in place of new memory; rows of no sequence are left alone.

    Returns:
        [num_tokens, num_heads, head_dim], query's dtype.
    """
    output = torch.empty_like(query) if out is None else out
    starts: list[int] = query_start_loc.tolist()
    if out is None:
        output[starts[-1] :] = 0
    lengths: list[int] = seq_lens.tolist()
    for index, length in enumerate(lengths):
        if length == 0:
            output[starts[index] : starts[index + 1]] = 0
    single = [i for i, length in enumerate(lengths) if length and starts[i + 1] - starts[i] == 1]
    longer = [i for i, length in enumerate(lengths) if length and starts[i + 1] - starts[i] > 1]
    # All sequences with one new token go together, padded to the longest; the others one by one.
    for group in ([single] if single else []) + [[i] for i in longer]:
        query_len = starts[group[0] + 1] - starts[group[0]]
        max_seq_len = max(lengths[i] for i in group)
        chosen = slice(None) if len(group) == len(lengths) else group
        ends = query_start_loc[1:][chosen]
        rows = ends[:, None] + torch.arange(-query_len, 0, device=query.device)  # [len(group), query_len]
        attended = _attend(
            query[rows].transpose(1, 2),
            _gather(key_cache, block_tables[chosen], max_seq_len),
            _gather(value_cache, block_tables[chosen], max_seq_len),
            seq_lens=seq_lens[chosen],
            is_whole=query_len == max_seq_len,
            scale=scale,
            alibi_slopes=alibi_slopes,
        )
        output[rows] = attended.transpose(1, 2)
    return output


def _gather(cache: Tensor, block_tables: Tensor, max_seq_len: int) -> Tensor:
    """Copy of cached entries: [num_seqs, num_kv_heads, max_seq_len, head_dim]."""
    num_blocks = -(-max_seq_len // cache.shape[1])
    pages = cache[block_tables[:, :num_blocks]]  # [num_seqs, num_blocks, block_size, num_kv_heads, head_dim]
    return pages.flatten(1, 2)[:, :max_seq_len].transpose(1, 2)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    seq_lens: Tensor,
    is_whole: bool,
    scale: float,
    alibi_slopes: Tensor | None,
) -> Tensor:
    """Attention of the last query_len tokens of sequences that are padded on the right.

    Args:
        query: [num_seqs, num_heads, query_len, head_dim]; key, value: [num_seqs, num_kv_heads, max_seq_len, head_dim].
        is_whole: whether every sequence is all new tokens, so that torch's own causal mask does.

    Returns:
        As `query`.
    """
    enable_gqa = query.shape[1] != key.shape[1]
    if is_whole and alibi_slopes is None:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=enable_gqa)
    query_len, max_seq_len = query.shape[2], key.shape[2]
    query_positions = seq_lens[:, None] + torch.arange(-query_len, 0, device=query.device)  # [num_seqs, query_len]
    distances = torch.arange(max_seq_len, device=query.device) - query_positions[:, :, None]
    visible = (distances <= 0)[:, None]  # [num_seqs, 1, query_len, max_seq_len]
    if alibi_slopes is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scale, enable_gqa=enable_gqa)
    bias = alibi_slopes[:, None, None] * distances[:, None].float()  # [num_seqs, num_heads, query_len, max_seq_len]
    attended = F.scaled_dot_product_attention(
        query.float(),
        key.float(),
        value.float(),
        attn_mask=bias.masked_fill(~visible, -torch.inf),
        scale=scale,
        enable_gqa=enable_gqa,
    )
    return attended.to(query.dtype)

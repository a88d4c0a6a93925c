"""Attention over a paged KV cache in one kernel: few queries over long caches, split and merged, or whole prompts.

A program takes a tile of rows of one sequence and one key head; a row is one query of one of the heads that share the
key head, so that grouped queries read each key once. Tiles of keys are gathered through the block table, and softmax is
kept running (FlashAttention-2, arXiv:2307.08691), in powers of two.

With at most `SHORT_QUERY` queries a sequence (decoding, checking drafts) there are too few rows to fill a GPU: the keys
are cut into splits, whose results a second kernel merges by their log-sum-exp (Flash-Decoding). The number of splits
follows from shapes alone, how long they are from each sequence's length, on the device: a captured graph serves all
lengths, and a sequence's result does not depend on its neighbours'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

SHORT_QUERY = 8
"""Most new tokens of a sequence for which its keys are split."""
PROGRAMS_WANTED = 528
"""Programs that fill a GPU: four on each of an H100's 132 multiprocessors, whose shared memory holds as many."""
MAX_SPLITS = 64
# What changes from step to step makes no new variants of the kernels: compiling one takes seconds.
_VARYING = ["num_row_tiles", "max_query_len", "table_stride"]
_SLICED = ["query_start_loc", "seq_lens", "block_tables"]


@triton.jit
def keys_in_split(seq_len, num_splits, BLOCK_N: tl.constexpr):
    """Length of each split: whole tiles of keys, and at least one."""
    return tl.maximum(tl.cdiv(tl.cdiv(seq_len, num_splits), BLOCK_N), 1) * BLOCK_N


@triton.jit
def attend_to_keys(
    accumulated,  # [BLOCK_M, BLOCK_D] float32
    row_max,  # [BLOCK_M] float32, in powers of two
    row_sum,  # [BLOCK_M] float32
    queries,  # [BLOCK_M, BLOCK_D]
    key_base,
    value_base,
    table,
    begin,
    end,
    positions,  # [BLOCK_M] int32
    slopes,  # [BLOCK_M] float32, times log2(e)
    scale_log2,
    block_stride,
    slot_stride,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HAS_ALIBI: tl.constexpr,
    IS_MASKED: tl.constexpr,
):
    """Keys `begin` to `end` added to the running softmax; without a mask, whole tiles that all rows see."""
    dims = tl.arange(0, BLOCK_D)
    for first in tl.range(begin, end, BLOCK_N):
        places = first + tl.arange(0, BLOCK_N)
        if IS_MASKED:
            blocks = tl.load(table + places // BLOCK_SIZE, mask=places < end, other=0).to(tl.int64)
        else:
            blocks = tl.load(table + places // BLOCK_SIZE).to(tl.int64)
        offsets = (blocks * block_stride + (places % BLOCK_SIZE) * slot_stride)[:, None] + dims[None, :]
        if IS_MASKED:  # what lies beyond the end may be anything, and 0 x NaN is NaN
            loaded = (places < end)[:, None] & (dims < HEAD_DIM)[None, :]
            keys = tl.load(key_base + offsets, mask=loaded, other=0.0)
            values = tl.load(value_base + offsets, mask=loaded, other=0.0)
        elif HEAD_DIM != BLOCK_D:
            keys = tl.load(key_base + offsets, mask=(dims < HEAD_DIM)[None, :], other=0.0)
            values = tl.load(value_base + offsets, mask=(dims < HEAD_DIM)[None, :], other=0.0)
        else:
            keys = tl.load(key_base + offsets)
            values = tl.load(value_base + offsets)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale_log2
        distances = places[None, :] - positions[:, None]
        if HAS_ALIBI:
            scores += slopes[:, None] * distances.to(tl.float32)
        if IS_MASKED:
            scores = tl.where((distances <= 0) & (places < end)[None, :], scores, -float("inf"))
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        # A row that has seen no key yet would take -inf from -inf.
        shift = tl.where(new_max == -float("inf"), 0.0, new_max) if IS_MASKED else new_max
        weights = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(row_max - shift)
        row_sum = row_sum * rescale + tl.sum(weights, 1)
        accumulated = tl.dot(
            weights.to(values.dtype), values, acc=accumulated * rescale[:, None], input_precision="ieee"
        )
        row_max = new_max
    return accumulated, row_max, row_sum


@triton.jit(do_not_specialize=_VARYING, do_not_specialize_on_alignment=_SLICED)
def paged_attention_kernel(
    query,
    key_cache,
    value_cache,
    output,  # [num_tokens, num_heads, head_dim], or if split [num_splits, num_seqs, max_query_len, num_heads, head_dim]
    lse,  # of splits: [num_splits, num_seqs, max_query_len, num_heads] float32, in powers of two
    query_start_loc,
    seq_lens,
    block_tables,
    alibi_slopes,
    scale_log2,
    num_heads,
    num_row_tiles,
    max_query_len,
    query_token_stride,
    query_head_stride,
    block_stride,
    slot_stride,
    head_stride,
    table_stride,
    output_token_stride,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HAS_ALIBI: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    TWO_LOOPS: tl.constexpr,
):
    """Grid (num_kv_heads * num_row_tiles, num_splits, num_seqs). Late tiles, which see most keys, begin first."""
    kv_head = tl.program_id(0) // num_row_tiles
    tile = num_row_tiles - 1 - tl.program_id(0) % num_row_tiles
    split = tl.program_id(1)
    seq = tl.program_id(2).to(tl.int64)
    start = tl.load(query_start_loc + seq).to(tl.int64)
    query_len = (tl.load(query_start_loc + seq + 1) - start).to(tl.int32)
    seq_len = tl.load(seq_lens + seq).to(tl.int32)
    if tile * BLOCK_M >= query_len * GROUP:
        return
    first_position = seq_len - query_len + tile * BLOCK_M // GROUP  # of the tile's rows
    last_row = tl.minimum((tile + 1) * BLOCK_M, query_len * GROUP) - 1
    begin = 0
    end = seq_len - query_len + last_row // GROUP + 1
    if IS_SPLIT:
        split_len = keys_in_split(seq_len, tl.num_programs(1), BLOCK_N)
        begin = split * split_len
        if begin >= seq_len:
            return
        end = tl.minimum(end, begin + split_len)

    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    indices = rows // GROUP
    heads = kv_head * GROUP + rows % GROUP
    dims = tl.arange(0, BLOCK_D)
    is_row = rows < query_len * GROUP
    is_entry = is_row[:, None] & (dims < HEAD_DIM)[None, :]
    tokens = start + indices
    places = tokens * query_token_stride + heads * query_head_stride
    queries = tl.load(query + places[:, None] + dims[None, :], mask=is_entry, other=0.0)
    positions = seq_len - query_len + indices
    slopes = tl.zeros([BLOCK_M], tl.float32)
    if HAS_ALIBI:
        slopes = tl.load(alibi_slopes + heads, mask=is_row, other=0.0) * 1.4426950408889634  # log2(e)

    row_max = tl.full([BLOCK_M], -float("inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    accumulated = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    key_base = key_cache + kv_head.to(tl.int64) * head_stride
    value_base = value_cache + kv_head.to(tl.int64) * head_stride
    table = block_tables + seq * table_stride
    if TWO_LOOPS:
        seen_by_all = tl.maximum(tl.minimum(first_position + 1, end) - begin, 0)
        masked_from = begin + seen_by_all // BLOCK_N * BLOCK_N
        accumulated, row_max, row_sum = attend_to_keys(
            accumulated, row_max, row_sum, queries, key_base, value_base, table, begin, masked_from, positions, slopes,
            scale_log2, block_stride, slot_stride, HEAD_DIM, BLOCK_SIZE, BLOCK_N, BLOCK_D, HAS_ALIBI, False,
        )  # fmt: skip
        begin = masked_from
    accumulated, row_max, row_sum = attend_to_keys(
        accumulated, row_max, row_sum, queries, key_base, value_base, table, begin, end, positions, slopes,
        scale_log2, block_stride, slot_stride, HEAD_DIM, BLOCK_SIZE, BLOCK_N, BLOCK_D, HAS_ALIBI, True,
    )  # fmt: skip

    saw_none = row_sum == 0.0
    result = accumulated / tl.where(saw_none, 1.0, row_sum)[:, None]
    if IS_SPLIT:
        cells = ((split * tl.num_programs(2) + seq) * max_query_len + indices) * num_heads + heads
        tl.store(output + cells[:, None] * HEAD_DIM + dims[None, :], result, mask=is_entry)
        tl.store(lse + cells, tl.where(saw_none, -float("inf"), row_max + tl.log2(row_sum)), mask=is_row)
    else:
        places = tokens * output_token_stride + heads * HEAD_DIM
        tl.store(output + places[:, None] + dims[None, :], result.to(output.dtype.element_ty), mask=is_entry)


@triton.jit(do_not_specialize=["num_splits"], do_not_specialize_on_alignment=_SLICED[:2])
def merge_splits_kernel(
    parts,  # [num_splits, num_seqs, max_query_len, num_heads, head_dim] float32
    lse,  # [num_splits, num_seqs, max_query_len, num_heads] float32, in powers of two
    output,
    query_start_loc,
    seq_lens,
    num_splits,
    output_token_stride,
    HEAD_DIM: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """Grid (num_heads, max_query_len, num_seqs)."""
    head, index, seq = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = tl.load(query_start_loc + seq).to(tl.int64)
    query_len = tl.load(query_start_loc + seq + 1) - start
    if index >= query_len:
        return
    seq_len = tl.load(seq_lens + seq).to(tl.int32)
    num_live = tl.cdiv(seq_len, keys_in_split(seq_len, num_splits, BLOCK_N))
    splits = tl.arange(0, BLOCK_S)
    dims = tl.arange(0, BLOCK_D)
    is_live = splits < num_live
    num_heads, max_query_len = tl.num_programs(0), tl.num_programs(1)
    cells = ((splits * tl.num_programs(2) + seq) * max_query_len + index) * num_heads + head
    logs = tl.load(lse + cells, mask=is_live, other=-float("inf"))
    largest = tl.max(logs, 0)
    weights = tl.exp2(logs - tl.where(largest == -float("inf"), 0.0, largest))
    total = tl.sum(weights, 0)
    entries = tl.load(
        parts + cells[:, None] * HEAD_DIM + dims[None, :],
        mask=is_live[:, None] & (dims < HEAD_DIM)[None, :],
        other=0.0,
    )
    merged = tl.sum(entries * weights[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    place = (start + index) * output_token_stride + head * HEAD_DIM
    tl.store(output + place + dims, merged.to(output.dtype.element_ty), mask=dims < HEAD_DIM)


@dataclass(frozen=True, slots=True)
class Tile:
    """Sizes of a program: rows, keys at once, warps, stages of the pipeline."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


def choose_tile(*, max_query_len: int, group: int, head_dim: int, dtype: torch.dtype) -> Tile:
    """For short queries, tiles of which four programs find room on a multiprocessor, each with two tiles of keys and
    of values under way; for long ones, tiles that keep the tensor cores busy. float32 goes without tensor cores."""
    is_short = max_query_len <= SHORT_QUERY
    rows = min(64, max(16, triton.next_power_of_2(max_query_len * group)))
    if dtype == torch.float32:
        return Tile(rows if is_short else 32, 16 if head_dim > 64 else 32, 4, 2)
    if is_short:
        return Tile(rows, 64 if head_dim <= 64 else 32 if head_dim <= 128 else 16, 4, 5)
    if head_dim <= 64:
        return Tile(128, 64, 8, 3)
    return Tile(128, 32, 8, 3) if head_dim <= 128 else Tile(64, 32, 8, 2)


def choose_num_splits(*, num_seqs: int, num_programs: int, max_seq_len: int, block_n: int) -> int:
    """Splits that fill the GPU, none of them shorter than two tiles of keys at the longest length.

    Args:
        num_programs: of one sequence without splits.
    """
    wanted = PROGRAMS_WANTED // max(1, num_seqs * num_programs)
    return max(1, min(wanted, max_seq_len // (2 * block_n), MAX_SPLITS))


def paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    query_start_loc: Tensor,
    seq_lens: Tensor,
    block_tables: Tensor,
    max_query_len: int,
    max_seq_len: int,
    scale: float,
    alibi_slopes: Tensor | None = None,
    num_splits: int | None = None,
    fixed_tiles: bool = False,
    out: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """As `kernels.paged_attention.paged_attention_reference`, for any mixture of query lengths.

    Args:
        query: [num_tokens, num_heads, head_dim], entries of a head adjoining; key_cache, value_cache: of like strides.
        query_start_loc: [num_seqs + 1]; it may begin and end anywhere in `query`, and the other rows are left alone.
        seq_lens: [num_seqs]; of 0 tokens: a padding row, whose output is 0.
        max_query_len, max_seq_len: bounds on the sequences' lengths, which fix the grid: a graph is captured for them.
        num_splits: of each sequence's keys, at most 64, only with `max_query_len` of at most `SHORT_QUERY`; `None`: as
            many as fill a GPU. The same number gives the same bits, whatever else is in the batch.
        fixed_tiles: one tile and no splits whatever the number of queries: a token's result is the same bits however
            its sequence was cut into steps, and whatever else was in them. Decoding does not fill a GPU then, and
            prompts use a quarter of a tensor core's product at best.
        out: [num_tokens, num_heads, head_dim], written in place of new memory. out_dtype: of new memory, if not
            query's.

    Raises:
        ValueError: a tensor's strides or `num_splits` are not as above.
    """
    num_tokens, num_heads, head_dim = query.shape
    num_kv_heads, block_size = key_cache.shape[2], key_cache.shape[1]
    num_seqs, group = len(seq_lens), num_heads // num_kv_heads
    if out is None:
        out = torch.empty((num_tokens, num_heads, head_dim), dtype=out_dtype or query.dtype, device=query.device)
    if query.stride(2) != 1 or key_cache.stride(3) != 1 or key_cache.stride() != value_cache.stride():
        raise ValueError("entries of a head must adjoin in memory, and both caches have the same strides")
    if out.stride()[1:] != (head_dim, 1) or block_tables.stride(1) != 1:
        raise ValueError("heads of an output row and entries of a block table must adjoin in memory")
    tile = choose_tile(
        max_query_len=1 if fixed_tiles else max_query_len, group=group, head_dim=head_dim, dtype=query.dtype
    )
    num_row_tiles = triton.cdiv(max_query_len * group, tile.block_m)
    if num_splits is None:
        num_splits = 1
        if max_query_len <= SHORT_QUERY and not fixed_tiles:
            num_splits = choose_num_splits(
                num_seqs=num_seqs,
                num_programs=num_kv_heads * num_row_tiles,
                max_seq_len=max_seq_len,
                block_n=tile.block_n,
            )
    if not 1 <= num_splits <= (MAX_SPLITS if max_query_len <= SHORT_QUERY and not fixed_tiles else 1):
        raise ValueError(
            f"num_splits={num_splits} is not allowed: use 1 to {MAX_SPLITS}, and 1 for more than {SHORT_QUERY} queries "
            "and for fixed tiles"
        )
    is_split = num_splits > 1
    cells = (num_splits, num_seqs, max_query_len, num_heads) if is_split else (0,)
    parts = torch.empty((*cells, head_dim), dtype=torch.float32, device=query.device)
    lse = torch.empty(cells, dtype=torch.float32, device=query.device)
    block_d = max(16, triton.next_power_of_2(head_dim))
    paged_attention_kernel[(num_kv_heads * num_row_tiles, num_splits, num_seqs)](
        query,
        key_cache,
        value_cache,
        parts if is_split else out,
        lse,
        query_start_loc,
        seq_lens,
        block_tables,
        alibi_slopes if alibi_slopes is not None else lse,
        scale * math.log2(math.e),
        num_heads,
        num_row_tiles,
        max_query_len,
        query.stride(0),
        query.stride(1),
        key_cache.stride(0),
        key_cache.stride(1),
        key_cache.stride(2),
        block_tables.stride(0),
        out.stride(0),
        GROUP=group,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        BLOCK_M=tile.block_m,
        BLOCK_N=tile.block_n,
        BLOCK_D=block_d,
        HAS_ALIBI=alibi_slopes is not None,
        IS_SPLIT=is_split,
        TWO_LOOPS=max_query_len > SHORT_QUERY and not fixed_tiles,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
    if is_split:
        merge_splits_kernel[(num_heads, max_query_len, num_seqs)](
            parts,
            lse,
            out,
            query_start_loc,
            seq_lens,
            num_splits,
            out.stride(0),
            HEAD_DIM=head_dim,
            BLOCK_N=tile.block_n,
            BLOCK_D=block_d,
            BLOCK_S=triton.next_power_of_2(num_splits),
            num_warps=1 if num_splits * block_d <= 1024 else 4,
        )
    return out

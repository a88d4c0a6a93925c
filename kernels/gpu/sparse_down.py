"""Exact sparse down-projection: two launches, the rows that count found in the first and read in the second.

How many rows are live is known on the device alone, and the grid must not depend on it. So the grid is as large as the
GPU, a program for each tile of columns and each split, and a split takes an equal share of the live rows, whichever
they are: positions live * s / splits to live * (s + 1) / splits of the list. No split has more than one row more than
another, at any live fraction. As compiled for sm_90 (175 registers, 128 threads) two programs fit on a multiprocessor,
so that an H100 runs Persimmon's 512 in two turns; not measured yet.

The list is kept in blocks of `LIST_BLOCK` rows, each compacted by a program of its own, with a count; which block a
position lies in follows from the counts' running sum, which every program makes for itself. That spares the pass, or
the atomics, that one list would take, and its order is always ascending: the same input gives the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.sparse_down import MAX_LIVE_FRACTION, MOST_TOKENS, dense_partials
from kernels.squared_relu import FP16_INPUT_LIMIT

LIST_BLOCK = 512
PROGRAMS_WANTED = 528  # four for each of an H100's 132 multiprocessors
MOST_SPLITS = 8  # each costs a row of float32 a token, which the following norm reads
BLOCK_T = 16  # fewest rows of a tensor core's product
BLOCK_R, BLOCK_H = 64, 64  # 128 bytes of a row are a cache line; a tile of 8 KiB
NUM_WARPS, NUM_STAGES = 4, 4


@triton.jit
def find_live_rows(
    states,
    rows,  # [num_blocks, LIST_BLOCK] int32, the first counts[block] of each block
    counts,  # [num_blocks] int32
    largest,  # [num_tokens, num_blocks] float32
    is_token,  # [num_tokens] int64, 0 for padding
    token_stride,
    num_rows,
    num_tokens,
    HAS_LARGEST: tl.constexpr,
    HAS_PADDING: tl.constexpr,
    TOKENS: tl.constexpr,  # power of two, at least num_tokens
    LIST_BLOCK: tl.constexpr,
):
    """Grid (num_blocks,)."""
    block = tl.program_id(0)
    tokens = tl.arange(0, TOKENS)
    places = block * LIST_BLOCK + tl.arange(0, LIST_BLOCK)
    mask = (tokens < num_tokens)[:, None] & (places < num_rows)[None, :]
    x = tl.load(states + tokens[:, None] * token_stride + places[None, :], mask=mask, other=0.0).to(tl.float32)
    is_live = tl.where(x <= 0, 0, 1)  # NaN is live
    if HAS_PADDING:
        counts_in = tl.load(is_token + tokens, mask=tokens < num_tokens, other=0) != 0
        is_live = tl.where(counts_in[:, None], is_live, 0)
    live = tl.max(is_live, axis=0)
    tl.store(rows + block * LIST_BLOCK + tl.cumsum(live, axis=0) - live, places, mask=live > 0)
    tl.store(counts + block, tl.sum(live, axis=0))
    if HAS_LARGEST:
        tl.store(largest + tokens * tl.num_programs(0) + block, tl.max(x, axis=1), mask=tokens < num_tokens)


@triton.jit
def sum_live_rows(
    states,
    weight_t,
    rows,
    counts,
    largest,
    partials,  # [num_splits, num_tokens, hidden_size] float32
    live_counter,
    max_live,
    token_stride,
    weight_stride,
    num_rows,
    hidden_size,
    num_tokens,
    num_blocks,
    HAS_LARGEST: tl.constexpr,
    HAS_COUNTER: tl.constexpr,
    INPUT_LIMIT: tl.constexpr,
    BLOCKS: tl.constexpr,  # power of two, at least num_blocks
    LIST_BLOCK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Grid (cdiv(hidden_size, BLOCK_H), num_splits)."""
    split, num_splits = tl.program_id(1), tl.num_programs(1)
    blocks = tl.arange(0, BLOCKS)
    count = tl.load(counts + blocks, mask=blocks < num_blocks, other=0)
    ends, num_live = tl.cumsum(count, axis=0), tl.sum(count, axis=0)
    if HAS_COUNTER:  # noqa: SIM102 - known when compiled, unlike the rest
        if tl.program_id(0) + split == 0:
            tl.store(live_counter, tl.load(live_counter) + num_live)
            tl.store(live_counter + 1, tl.load(live_counter + 1) + num_rows)
    is_dense = num_live > max_live
    num_taken = tl.where(is_dense, num_rows, num_live)
    begin = num_taken * split // num_splits
    end = num_taken * (split + 1) // num_splits

    tokens = tl.arange(0, BLOCK_T)
    columns = tl.program_id(0) * BLOCK_H + tl.arange(0, BLOCK_H)
    scale = tl.full((BLOCK_T,), 1.0, tl.float32)
    if HAS_LARGEST:  # 2^e with largest / limit = m * 2^e, m in [0.5, 1), and e from 0 to 9: 65504 / 128 < 2^9
        mask = (tokens < num_tokens)[:, None] & (blocks < num_blocks)[None, :]
        top = tl.max(tl.load(largest + tokens[:, None] * num_blocks + blocks[None, :], mask=mask, other=0.0), axis=1)
        exponent = ((tl.maximum(top, 0.0) / INPUT_LIMIT).to(tl.int32, bitcast=True) >> 23) - 126
        scale = ((tl.minimum(tl.maximum(exponent, 0), 9) + 127) << 23).to(tl.float32, bitcast=True)

    accumulated = tl.zeros((BLOCK_T, BLOCK_H), tl.float32)
    for first in tl.range(begin, end, BLOCK_R):
        places = first + tl.arange(0, BLOCK_R)
        inside = places < end
        is_past = ends[None, :] <= places[:, None]  # [BLOCK_R, BLOCKS]: blocks that end before the place
        block = tl.sum(is_past.to(tl.int32), axis=1)
        start = tl.max(tl.where(is_past, ends[None, :], 0), axis=1)
        listed = inside & (num_live <= max_live)
        row = tl.load(rows + block * LIST_BLOCK + places - start, mask=listed, other=0)
        row = tl.where(is_dense, places, row)
        x = tl.load(
            states + tokens[:, None] * token_stride + row[None, :],
            mask=(tokens < num_tokens)[:, None] & inside[None, :],
            other=0.0,
        ).to(tl.float32)
        x = tl.where(x <= 0, 0.0, x)
        if HAS_LARGEST:
            x = x / scale[:, None]
        weights = tl.load(
            weight_t + row[:, None].to(tl.int64) * weight_stride + columns[None, :],
            mask=inside[:, None] & (columns < hidden_size)[None, :],
            other=0.0,
        )
        accumulated = tl.dot((x * x).to(weights.dtype), weights, acc=accumulated, input_precision="ieee")
    if HAS_LARGEST:
        accumulated = accumulated * (scale * scale)[:, None]
    tl.store(
        partials + (split * num_tokens + tokens)[:, None].to(tl.int64) * hidden_size + columns[None, :],
        accumulated,
        mask=(tokens < num_tokens)[:, None] & (columns < hidden_size)[None, :],
    )


def sparse_down_projection(
    states: Tensor,
    weight_t: Tensor,
    *,
    max_live_fraction: float = MAX_LIVE_FRACTION,
    live_counter: Tensor | None = None,
    is_token: Tensor | None = None,
) -> Tensor:
    """As :func:`kernels.sparse_down.sparse_down_projection_reference`, with partial sums as many as shapes ask for.

    Nothing is read back and the grid follows from shapes alone, so a captured graph serves any activations.

    Raises:
        ValueError: dtypes or sizes do not fit, or the entries of a row are not side by side.
    """
    num_tokens, num_rows = states.shape
    if weight_t.dtype != states.dtype or len(weight_t) != num_rows:
        raise ValueError(
            f"weight_t is {list(weight_t.shape)} {weight_t.dtype}: states {list(states.shape)} {states.dtype} need "
            f"{num_rows} rows of the same dtype"
        )
    if states.stride(1) != 1 or weight_t.stride(1) != 1:
        raise ValueError("the entries of a row of states and of weight_t must be side by side")
    if not 0 < num_tokens <= MOST_TOKENS:
        return dense_partials(states, weight_t)
    device, hidden_size = states.device, weight_t.shape[1]
    num_blocks, num_splits = triton.cdiv(num_rows, LIST_BLOCK), splits(hidden_size)
    rows = torch.empty((num_blocks, LIST_BLOCK), dtype=torch.int32, device=device)
    counts = torch.empty(num_blocks, dtype=torch.int32, device=device)
    has_largest = states.dtype == torch.float16
    largest = torch.empty((num_tokens, num_blocks) if has_largest else 1, dtype=torch.float32, device=device)
    partials = torch.empty((num_splits, num_tokens, hidden_size), dtype=torch.float32, device=device)
    padded = triton.next_power_of_2(num_tokens)
    find_live_rows[(num_blocks,)](
        states,
        rows,
        counts,
        largest,
        counts if is_token is None else is_token,
        states.stride(0),
        num_rows,
        num_tokens,
        HAS_LARGEST=has_largest,
        HAS_PADDING=is_token is not None,
        TOKENS=padded,
        LIST_BLOCK=LIST_BLOCK,
        num_warps=find_warps(padded),
    )
    sum_live_rows[(triton.cdiv(hidden_size, BLOCK_H), num_splits)](
        states,
        weight_t,
        rows,
        counts,
        largest,
        partials,
        counts if live_counter is None else live_counter,
        int(max_live_fraction * num_rows),
        states.stride(0),
        weight_t.stride(0),
        num_rows,
        hidden_size,
        num_tokens,
        num_blocks,
        HAS_LARGEST=has_largest,
        HAS_COUNTER=live_counter is not None,
        INPUT_LIMIT=FP16_INPUT_LIMIT,
        BLOCKS=triton.next_power_of_2(num_blocks),
        LIST_BLOCK=LIST_BLOCK,
        BLOCK_T=BLOCK_T,
        BLOCK_R=BLOCK_R,
        BLOCK_H=BLOCK_H,
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
    )
    return partials


def splits(hidden_size: int) -> int:
    """Number of partial sums: with the tiles of columns, at most `PROGRAMS_WANTED` programs."""
    return min(max(PROGRAMS_WANTED // triton.cdiv(hidden_size, BLOCK_H), 1), MOST_SPLITS)


def find_warps(tokens: int) -> int:
    """Warps of `find_live_rows`: each thread has at least 8 entries of 2 bytes, a load of 16."""
    return 2 if tokens == 1 else 4

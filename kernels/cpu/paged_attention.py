"""Attention straight from the pages of the KV cache, with what comes before it, in one call.

Norm and rotation of new query and key heads, new keys and values into their slots, and attention of each new token over
its sequence: torch takes twenty operations for that, and has to gather the pages first, which is three passes over keys
and values in place of one. Each new token goes by itself, so there are no masks and nothing is padded; for many new
tokens of one sequence products of matrices are faster, and torch has them.

Every thread takes an equal share of all the keys that are read, cut between key heads; a token's result is the same
whatever else is in the step and however many threads there are.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import torch
from numba import cfunc, njit
from torch import Tensor

from kernels.cpu import threads
from kernels.cpu.language import (
    CACHE_LINE,
    FASTMATH,
    SIGNATURE,
    SOURCE_STAMP,
    add_scaled,
    dot,
    exponential,
    float32_at,
    float64_at,
    int64_at,
    num_threads,
    prefetch,
    thread_number,
    wait_for_all,
)
from kernels.paged_attention_cpu import TokensAlone, Workspace
from kernels.qk_rotary import HeadNorms, Rotation


@njit(fastmath=FASTMATH, error_model="numpy")
def _prepare(head, at, head_dim, weight, bias, normalises, eps, cos, sin, half):
    """LayerNorm of head[at:][:head_dim], and rotation of its first 2 * half numbers (NeoX halves), in place."""
    if normalises:
        mean, variance = numba.float32(0.0), numba.float32(0.0)
        for d in range(head_dim):
            mean += head[at + d]
        mean /= numba.float32(head_dim)
        for d in range(head_dim):
            variance += (head[at + d] - mean) ** 2
        spread = numba.float32(1.0) / np.sqrt(variance / numba.float32(head_dim) + eps)
        for d in range(head_dim):
            head[at + d] = (head[at + d] - mean) * spread * weight[d] + bias[d]
    for d in range(half):
        first, second = head[at + d], head[at + half + d]
        head[at + d] = first * cos[d] - second * sin[d]
        head[at + half + d] = second * cos[d] + first * sin[d]


@cache
def _kernel(head_dim: int) -> int:
    """Address of the kernel for heads of one size, compiled or read from Numba's cache."""
    stamp = SOURCE_STAMP

    @cfunc(SIGNATURE, fastmath=FASTMATH, error_model="numpy", cache=True)
    def kernel(integers):
        _ = stamp
        numbers = float64_at(integers[0])
        scale, eps = numba.float32(numbers[0]), numba.float32(numbers[1])
        # in the order of `paged_attention_`
        query, query_row, query_head = float32_at(integers[1]), integers[2], integers[3]
        key, key_row, key_head = float32_at(integers[4]), integers[5], integers[6]
        value, value_row, value_head = float32_at(integers[7]), integers[8], integers[9]
        key_cache, value_cache, block_size = float32_at(integers[10]), float32_at(integers[11]), integers[12]
        num_tokens, num_heads, num_kv_heads = integers[13], integers[14], integers[15]
        slots = int64_at(integers[16])
        half = integers[19]
        query_weight, query_bias = float32_at(integers[20]), float32_at(integers[21])
        key_weight, key_bias, normalises = float32_at(integers[22]), float32_at(integers[23]), integers[20] != 0
        slopes, has_slopes = float32_at(integers[24]), integers[24] != 0
        num_rows, total_length, longest = integers[25], integers[26], integers[27]
        query_tokens, output_rows = int64_at(integers[28]), int64_at(integers[29])
        lengths, sequences = int64_at(integers[30]), int64_at(integers[31])
        tables, table_width = int64_at(integers[32]), integers[33]
        output = float32_at(integers[34])
        scores = float32_at(integers[35] + thread_number() * integers[36] * 4)

        group = num_heads // num_kv_heads
        stride = num_kv_heads * head_dim  # from token to token in the cache
        for unit in range(
            num_tokens * num_kv_heads * thread_number() // num_threads(),
            num_tokens * num_kv_heads * (thread_number() + 1) // num_threads(),
        ):
            token, kv_head = unit // num_kv_heads, unit % num_kv_heads
            cos = float32_at(integers[17] + token * half * 4)
            sin = float32_at(integers[18] + token * half * 4)
            for head in range(kv_head * group, (kv_head + 1) * group):
                at = token * query_row + head * query_head
                _prepare(query, at, head_dim, query_weight, query_bias, normalises, eps, cos, sin, half)
            at = token * key_row + kv_head * key_head
            _prepare(key, at, head_dim, key_weight, key_bias, normalises, eps, cos, sin, half)
            slot = slots[token] * stride + kv_head * head_dim
            for d in range(head_dim):
                key_cache[slot + d] = key[at + d]
            at = token * value_row + kv_head * value_head
            for d in range(head_dim):
                value_cache[slot + d] = value[at + d]
        wait_for_all()

        begin = total_length * num_kv_heads * thread_number() // num_threads()
        end = total_length * num_kv_heads * (thread_number() + 1) // num_threads()
        before = 0
        for row in range(num_rows):
            length, table = lengths[row], sequences[row] * table_width
            # A key head belongs to the thread in whose share its middle lies.
            first = group * min(num_kv_heads, max(0, (begin - before + length - 1 - length // 2) // length))
            last = group * min(num_kv_heads, max(0, (end - before + length - 1 - length // 2) // length))
            before += length * num_kv_heads
            if first >= last:
                continue
            own_query, target = query_tokens[row] * query_row, output_rows[row] * num_heads * head_dim
            # Memory is read as it lies: token by token, head by head, and the next block asked for meanwhile.
            for start in range(0, length, block_size):
                block = tables[table + start // block_size] * block_size * stride
                ahead = tables[table + min(start + block_size, length - 1) // block_size] * block_size * stride - block
                for i in range(min(block_size, length - start)):
                    for head in range(first, last):
                        place = block + i * stride + (head // group) * head_dim
                        prefetch(head_dim, key_cache, place + ahead)
                        score = scale * dot(head_dim, query, own_query + head * query_head, key_cache, place)
                        if has_slopes:
                            score += slopes[head] * numba.float32(start + i - (length - 1))
                        scores[head * longest + start + i] = score
            for head in range(first, last):
                own = head * longest
                largest, total = numba.float32(-np.inf), numba.float32(0.0)
                for i in range(length):
                    largest = scores[own + i] if scores[own + i] > largest else largest
                for i in range(length):
                    weight = exponential(scores[own + i] - largest)
                    scores[own + i] = weight
                    total += weight
                for i in range(length):
                    scores[own + i] /= total
                for d in range(head_dim):
                    output[target + head * head_dim + d] = numba.float32(0.0)
            for start in range(0, length, block_size):
                block = tables[table + start // block_size] * block_size * stride
                ahead = tables[table + min(start + block_size, length - 1) // block_size] * block_size * stride - block
                count, i = min(block_size, length - start), 0
                while i + 4 <= count:
                    for head in range(first, last):
                        place, own = block + i * stride + (head // group) * head_dim, head * longest + start + i
                        for j in range(4):
                            prefetch(head_dim, value_cache, place + ahead + j * stride)
                        add_scaled(
                            head_dim, output, target + head * head_dim, value_cache, place, stride, scores, own, 4
                        )
                    i += 4
                while i < count:
                    for head in range(first, last):
                        place, own = block + i * stride + (head // group) * head_dim, head * longest + start + i
                        add_scaled(
                            head_dim, output, target + head * head_dim, value_cache, place, stride, scores, own, 1
                        )
                    i += 1

    address: int = kernel.address
    return address


def compile_for(head_dim: int) -> None:
    """Have the kernel for heads of this size ready: seconds when it is compiled, else it is in Numba's cache."""
    _kernel(head_dim)


def paged_attention_(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    output: Tensor,
    alone: TokensAlone,
    query_tokens: Tensor,
    workspace: Workspace,
    scale: float,
    slot_mapping: Tensor,
    rotation: Rotation | None = None,
    norms: HeadNorms | None = None,
    alibi_slopes: Tensor | None = None,
) -> None:
    """`qk_rotary_reference`, with queries and keys changed in place, and `paged_attention_reference` for some tokens.

    All tensors of numbers are float32.

    Args:
        query: [num_tokens, num_heads, head_dim]; key, value: [num_tokens, num_kv_heads, head_dim]; the numbers of a
            head follow one another in memory.
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        output: [num_rows, num_heads, head_dim] in one piece of memory, of which the rows of `alone` are written.
        alone: the tokens that attend.
        query_tokens: [len(alone.rows)] int64, where in `query` they are.
        workspace: for scores.
        scale: factor on the dot products.
        slot_mapping: [num_tokens] int64, where new keys and values are written.
        rotation, norms: `None` without.
        alibi_slopes: [num_heads].
    """
    num_heads, head_dim = query.shape[1:]
    scores_size = -(-num_heads * alone.longest // CACHE_LINE) * CACHE_LINE  # no two threads write to one line
    scores = workspace.take(scores_size * torch.get_num_threads(), torch.float32)
    cos, sin, half = (0, 0, 0) if rotation is None else (*map(Tensor.data_ptr, rotation), rotation.cos.shape[1])
    threads.run(
        _kernel(head_dim),
        [
            query.data_ptr(),
            query.stride(0),
            query.stride(1),
            key.data_ptr(),
            key.stride(0),
            key.stride(1),
            value.data_ptr(),
            value.stride(0),
            value.stride(1),
            key_cache.data_ptr(),
            value_cache.data_ptr(),
            key_cache.shape[1],
            query.shape[0],
            num_heads,
            key_cache.shape[2],
            slot_mapping.data_ptr(),
            cos,
            sin,
            half,
            *((0, 0, 0, 0) if norms is None else map(Tensor.data_ptr, norms[:4])),
            0 if alibi_slopes is None else alibi_slopes.data_ptr(),
            alone.rows.shape[0],
            alone.total_length,
            alone.longest,
            query_tokens.data_ptr(),
            alone.rows.data_ptr(),
            alone.lengths.data_ptr(),
            alone.sequences.data_ptr(),
            alone.block_tables.data_ptr(),
            alone.block_tables.shape[1],
            output.data_ptr(),
            scores.data_ptr(),
            scores_size,
        ],
        [scale, 0.0 if norms is None else norms.eps],
    )

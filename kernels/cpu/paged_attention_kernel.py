"""The kernel of `kernels.cpu.paged_attention`, in Numba's language."""

from __future__ import annotations

import numba
import numpy as np
from numba import cfunc, njit

from kernels.cpu.language import (
    FASTMATH,
    SIGNATURE,
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


@njit(fastmath=FASTMATH, error_model="numpy")
def _prepare(head, at, head_dim, weight, bias, normalises, eps, cos, sin, half):
    """LayerNorm of head[at:][:head_dim], and rotation of its first 2 * half numbers (NeoX halves), in place."""
    if normalises:
        mean, variance = numba.float32(0.0), numba.float32(0.0)
        for d in range(head_dim):
            mean += head[at + d]
        mean /= numba.float32(head_dim)
        for d in range(head_dim):
            variance += (head[at + d] - mean) * (head[at + d] - mean)
        spread = numba.float32(1.0) / np.sqrt(variance / numba.float32(head_dim) + eps)
        for d in range(head_dim):
            head[at + d] = (head[at + d] - mean) * spread * weight[d] + bias[d]
    for d in range(half):
        first, second = head[at + d], head[at + half + d]
        head[at + d] = first * cos[d] - second * sin[d]
        head[at + half + d] = second * cos[d] + first * sin[d]


def build(head_dim: int) -> object:
    """The kernel for heads of one size; `kernels.cpu.paged_attention` calls it."""

    @cfunc(SIGNATURE, fastmath=FASTMATH, error_model="numpy")
    def kernel(integers):
        numbers = float64_at(integers[0])
        scale, eps = numba.float32(numbers[0]), numba.float32(numbers[1])
        # in the order of `paged_attention_`, which calls it
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

    return kernel

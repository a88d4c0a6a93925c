"""The kernel of `kernels.cpu.linear`, in Numba's language."""

from __future__ import annotations

from numba import cfunc

from kernels.cpu.language import FASTMATH, SIGNATURE, float32_at, num_threads, thread_number
from kernels.cpu.tile import ROWS, multiply_tile

TOKENS = {16: 6, 8: 3}
"""By a vector's numbers, those of AVX-512 and AVX2: 24 and 12 sums leave registers for what they are made of."""
DEPTH = 768
"""Of a tile: its six states and four weights, 30 KB, stay in a first-level cache of 32."""
GROUP = 65536
"""Weights, 256 KB, that stay in the second-level cache while all tokens pass."""
SLAB = 512
"""Tokens after which the weights are read again: more would not stay in the last cache."""


def build(lanes: int) -> object:
    """The kernel for vectors of so many numbers; `kernels.cpu.linear` calls it."""
    most_tokens = TOKENS[lanes]

    @cfunc(SIGNATURE, fastmath=FASTMATH, error_model="numpy")
    def kernel(integers):
        # in the order of `linear`, which calls it
        states, states_stride, total_tokens, depth = integers[1], integers[2], integers[3], integers[4]
        weight, weight_stride, num_rows = integers[5], integers[6], integers[7]
        bias, output = integers[8], integers[9]
        begin = num_rows // ROWS * thread_number() // num_threads() * ROWS
        end = num_rows // ROWS * (thread_number() + 1) // num_threads() * ROWS
        for slab in range(0, total_tokens, SLAB):
            num_tokens = min(SLAB, total_tokens - slab)
            passes = (num_tokens + most_tokens - 1) // most_tokens
            # In one pass nothing is read twice: the weights are read as they lie.
            group = ROWS if passes == 1 else max(1, GROUP // (ROWS * min(depth, DEPTH))) * ROWS
            for first_row in range(begin, end, group):
                for start in range(0, depth, DEPTH):
                    for turn in range(passes):
                        first = slab + num_tokens * turn // passes
                        count = slab + num_tokens * (turn + 1) // passes - first
                        ahead = ROWS * weight_stride if turn == 0 else 0
                        for row in range(first_row, min(first_row + group, end), ROWS):
                            target = output + (first * num_rows + row) * 4
                            before, before_stride = target, num_rows
                            if start == 0:
                                before, before_stride = 0 if bias == 0 else bias + row * 4, 0
                            multiply_tile(
                                most_tokens,
                                lanes,
                                count,
                                min(DEPTH, depth - start),
                                float32_at(weight + (row * weight_stride + start) * 4),
                                weight_stride,
                                ahead,
                                float32_at(states + (first * states_stride + start) * 4),
                                states_stride,
                                float32_at(before),
                                before_stride,
                                float32_at(target),
                                num_rows,
                            )

    return kernel

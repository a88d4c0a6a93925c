"""A tile of a product of matrices whose sums are all in registers, for kernels in Numba's language.

Written out for LLVM: weights and states are read as they lie in memory, rows of both, so that a weight needs no copy in
another order. Each vector that is read is used several times, and each pair of a row and a token has a vector of sums,
which are added up only at the end, for four rows together, by shuffles.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.cpu.language import FIRST_LEVEL, FLOATS, fetch, load_vector, row_pointer, vector_type

ROWS = 4
"""Of the weight in a tile: their sums are one vector of 128 bits."""

_INDEX = ir.IntType(64)
_CONTRACT = ("contract",)  # a product and a sum may be one instruction; sums keep their order


@intrinsic(prefer_literal=True)
def multiply_tile(
    context,
    most_tokens,
    lanes,
    num_tokens,
    depth,
    weight,
    weight_stride,
    ahead,
    states,
    states_stride,
    before,
    before_stride,
    output,
    output_stride,
):
    """output[t * output_stride + r] = before[t * before_stride + r] + the dot product of
    weight[r * weight_stride:][:depth] and states[t * states_stride:][:depth], for r < ROWS and t < num_tokens.

    `most_tokens` and `lanes`, a power of two from 4 on, are known when compiling; 1 <= num_tokens <= most_tokens, and
    lanes divides depth. `before` may be null, which is 0, and it may be `output`. A sum's order depends on depth alone.
    The weights `ahead` of those that are read are asked for.
    """

    def generate(context, builder, signature, arguments):
        _, _, count, depth, weight, weight_stride, ahead, states, states_stride, *rest = arguments
        before, before_stride, output, output_stride = rest
        width = lanes.literal_value
        row_starts = _starts(builder, weight, weight_stride, ROWS)
        zero = ir.Constant(vector_type(ROWS), [0.0] * ROWS)
        given = cgutils.alloca_once(builder, zero.type)
        end = builder.append_basic_block("tile.end")
        way = builder.switch(count, end)
        for num_tokens in range(1, most_tokens.literal_value + 1):
            block = builder.append_basic_block(f"tile.{num_tokens}")
            way.add_case(_INDEX(num_tokens), block)
            builder.position_at_end(block)
            token_starts = _starts(builder, states, states_stride, num_tokens)
            sums = _multiply(builder, width, depth, row_starts, ahead, token_starts)
            for t, token_sums in enumerate(sums):
                builder.store(zero, given)
                with builder.if_then(cgutils.is_not_null(builder, before)):
                    builder.store(load_vector(builder, before, builder.mul(before_stride, _INDEX(t)), ROWS), given)
                found = builder.fadd(builder.load(given), _sum_each(builder, token_sums))
                target = row_pointer(builder, output, builder.mul(output_stride, _INDEX(t)), ROWS)
                builder.store(found, target, align=4)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    signature = types.void(
        most_tokens,
        lanes,
        types.int64,
        types.int64,
        FLOATS,
        types.int64,
        types.int64,
        FLOATS,
        types.int64,
        FLOATS,
        types.int64,
        FLOATS,
        types.int64,
    )
    return signature, generate


def _starts(builder, pointer, stride, count):
    return [builder.gep(pointer, [builder.mul(stride, _INDEX(i))]) for i in range(count)]


def _multiply(builder, width, depth, row_starts, ahead, token_starts):
    """The sums of all pairs, each still a vector of `width`, by token and row."""
    zero = ir.Constant(vector_type(width), [0.0] * width)
    # LLVM keeps them in registers.
    sums = [[cgutils.alloca_once(builder, zero.type) for _ in row_starts] for _ in token_starts]
    for token_sums in sums:
        for total in token_sums:
            builder.store(zero, total)
    with cgutils.for_range_slice(builder, _INDEX(0), depth, _INDEX(width), intp=_INDEX) as (at, _):
        states = [load_vector(builder, start, at, width) for start in token_starts]
        for r, start in enumerate(row_starts):
            fetch(builder, start, builder.add(at, ahead), FIRST_LEVEL)
            weight = load_vector(builder, start, at, width)
            for state, token_sums in zip(states, sums, strict=True):
                product = builder.fmul(weight, state, flags=_CONTRACT)
                builder.store(builder.fadd(builder.load(token_sums[r]), product, flags=_CONTRACT), token_sums[r])
    return [[builder.load(total) for total in token_sums] for token_sums in sums]


def _sum_each(builder, vectors):
    """The sums of four vectors as one vector, by shuffles that stay in 128 bits."""
    width = vectors[0].type.count
    first = _interleave(builder, vectors[0], vectors[1], ((0, width, 1, width + 1), (2, width + 2, 3, width + 3)))
    second = _interleave(builder, vectors[2], vectors[3], ((0, width, 1, width + 1), (2, width + 2, 3, width + 3)))
    total = _interleave(builder, first, second, ((0, 1, width, width + 1), (2, 3, width + 2, width + 3)))
    while width > ROWS:
        width //= 2
        low, high = (_shuffle(builder, total, total, range(begin, begin + width)) for begin in (0, width))
        total = builder.fadd(low, high)
    return total


def _interleave(builder, one, other, orders):
    """The sum of two vectors, each made of both in one of the orders, which are of each 128 bits."""
    low, high = (
        _shuffle(builder, one, other, [begin + place for begin in range(0, one.type.count, 4) for place in order])
        for order in orders
    )
    return builder.fadd(low, high)


def _shuffle(builder, one, other, places):
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
    return builder.shuffle_vector(one, other, order)

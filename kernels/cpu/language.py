"""What kernels are written with beyond Numba: raw addresses, and rows of a fixed length as one vector.

LLVM turns a vector of any length into the widest instructions that the processor has. Numba's own loops over as few as
32 numbers are not vectorised: attention over heads of 32 was 3 times slower with them.
"""

from __future__ import annotations

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SIGNATURE = types.void(types.CPointer(types.int64))
"""Of a kernel; see `kernels.cpu.threads.run`."""
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
"""Sums in any order, products and sums in one. Not `nnan` and `ninf`: what is not finite must be seen."""

for _name in ("omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier"):
    llvmlite.binding.add_symbol(_name, 1)  # LLVM wants an address, but kernels run in other processes
thread_number = types.ExternalFunction("omp_get_thread_num", types.int32())
wait_for_all = types.ExternalFunction("GOMP_barrier", types.void())
num_threads = types.ExternalFunction("omp_get_num_threads", types.int32())

CACHE_LINE = 16
"""float32 numbers in one."""
READ, DATA = 0, 1
FIRST_LEVEL, SECOND_LEVEL = 3, 2  # caches; of the LLVM language reference, llvm.prefetch

FLOATS = types.CPointer(types.float32)


def _pointer(element):
    def typed(context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(types.int64), generate

    return typed


float32_at = intrinsic(_pointer(types.float32))
"""The float32 numbers from an address on."""
int64_at = intrinsic(_pointer(types.int64))
float64_at = intrinsic(_pointer(types.float64))


@intrinsic
def float32_of_bits(context, bits):
    """The float32 that an int32's bits are."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@numba.njit(inline="always")
def exponential(x):
    """e^x for x <= 0, to two units in the last place; NaN for NaN, and 1e-38 where it would be less.

    The polynomial is Cephes' expf (Moshier, netlib.org/cephes, single/expf.c); loops over it are vectorised.
    """
    x = numba.float32(-87.0) if x < numba.float32(-87.0) else x
    power = _floor(x * numba.float32(1.44269504088896341) + numba.float32(0.5))
    # x - power * ln 2 in two parts, which must not be added up before
    rest = _fused(power, numba.float32(-0.693359375), x)
    rest = _fused(power, numba.float32(2.12194440e-4), rest)
    series = numba.float32(1.9875691500e-4)
    series = series * rest + numba.float32(1.3981999507e-3)
    series = series * rest + numba.float32(8.3334519073e-3)
    series = series * rest + numba.float32(4.1665795894e-2)
    series = series * rest + numba.float32(1.6666665459e-1)
    series = series * rest + numba.float32(5.0000001201e-1)
    series = series * rest * rest + rest + numba.float32(1.0)
    return series * float32_of_bits((numba.int32(power) + numba.int32(127)) << numba.int32(23))


@intrinsic
def _floor(context, x):
    def generate(context, builder, signature, arguments):
        floor = builder.module.declare_intrinsic("llvm.floor", [ir.FloatType()])
        return builder.call(floor, arguments)

    return types.float32(types.float32), generate


@intrinsic
def _fused(context, a, b, c):
    """a * b + c, rounded once."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


def vector_type(length):
    return ir.VectorType(ir.FloatType(), length)


def load_vector(builder, pointer, index, length):
    """The `length` numbers from pointer[index] on, at any address of a float32."""
    return builder.load(row_pointer(builder, pointer, index, length), align=4)


def row_pointer(builder, pointer, index, length):
    return builder.bitcast(builder.gep(pointer, [index]), vector_type(length).as_pointer())


def _repeat(builder, number, length):
    undefined = ir.Constant(vector_type(length), ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), length), [0] * length))


@intrinsic(prefer_literal=True)
def dot(context, length, a, a_index, b, b_index):
    """Dot product of a[a_index:][:length] and b[b_index:][:length]; `length` is known when compiling."""

    def generate(context, builder, signature, arguments):
        _, a, a_index, b, b_index = arguments
        size = length.literal_value
        products = builder.fmul(load_vector(builder, a, a_index, size), load_vector(builder, b, b_index, size))
        number = ir.FloatType()
        add = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(number, [number, vector_type(size)]),
            f"llvm.vector.reduce.fadd.v{size}f32",
        )
        return builder.call(add, [ir.Constant(number, 0.0), products], fastmath=("reassoc", "nsz", "contract"))

    return types.float32(length, FLOATS, types.int64, FLOATS, types.int64), generate


@intrinsic(prefer_literal=True)
def add_scaled(context, length, total, total_index, rows, index, stride, factors, factor_index, count):
    """total[total_index:][:length] += the sum of factors[factor_index + i] * rows[index + i * stride:][:length] over
    i < count; `length` and `count` are known when compiling."""

    def generate(context, builder, signature, arguments):
        _, total, total_index, rows, index, stride, factors, factor_index, _ = arguments
        size = length.literal_value
        target = row_pointer(builder, total, total_index, size)
        sums = builder.load(target, align=4)
        for i in range(count.literal_value):
            here = builder.add(factor_index, ir.Constant(ir.IntType(64), i))
            factor = _repeat(builder, builder.load(builder.gep(factors, [here])), size)
            product = builder.fmul(factor, load_vector(builder, rows, index, size), flags=("contract",))
            sums = builder.fadd(sums, product, flags=("contract",))
            index = builder.add(index, stride)
        builder.store(sums, target, align=4)
        return context.get_dummy_value()

    signature = types.void(length, FLOATS, types.int64, FLOATS, types.int64, types.int64, FLOATS, types.int64, count)
    return signature, generate


def fetch(builder, pointer, index, level):
    """Ask for the cache line of pointer[index]."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]), "llvm.prefetch.p0"
    )
    here = builder.bitcast(builder.gep(pointer, [index]), byte)
    builder.call(function, [here, flag(READ), flag(level), flag(DATA)])


@intrinsic(prefer_literal=True)
def prefetch(context, length, pointer, index):
    """Ask for pointer[index:][:length] in the second-level cache; `length` is known when compiling."""

    def generate(context, builder, signature, arguments):
        _, pointer, index = arguments
        for offset in range(0, length.literal_value, CACHE_LINE):
            fetch(builder, pointer, builder.add(index, ir.Constant(ir.IntType(64), offset)), SECOND_LEVEL)
        return context.get_dummy_value()

    return types.void(length, FLOATS, types.int64), generate

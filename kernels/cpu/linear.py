"""Vectors times a matrix, few or many: every weight is read once, straight through, by all threads.

oneDNN wants the weights in an order of its own and brings them into it for each product, which costs more than the
product where there are few vectors; keeping them in that order would be a second copy, since others read them as they
lie. This is 1.1 to 3 times as fast as oneDNN for 2 to 32 vectors, and as fast for hundreds (`results/LOG.md` has the
measurements). Its sums depend on the matrix alone: a vector's result is the same bits alone and among others, and for
any number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import linear as torchs
from kernels.cpu import code, threads

ROWS = 4  # of a tile, see kernels.cpu.tile, which only the compiling process imports


def compile_for_this_processor() -> None:
    """Have the kernel ready, where it is used.

    Raises:
        RuntimeError: it cannot be compiled.
    """
    if not torchs.TAKES_MKL:
        code.address("linear_kernel", code.vector_length())


def linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`kernels.linear.linear_reference`, on a CPU; equal up to the rounding of sums.

    It is :func:`kernels.linear.linear` where the matrix does not fit the kernel (see :func:`fits`) and on Intel's
    processors, where that is MKL's.

    Args:
        states: [num_tokens, in_features]; weight: [out_features, in_features]; bias: [out_features]; all float32.
    """
    if torchs.TAKES_MKL or not fits(states, weight):
        return torchs.linear(states, weight, bias)
    output = states.new_empty(len(states), len(weight))
    _launch(states, weight, bias, output)
    return output


def product_(states: Tensor, weight: Tensor, *, output: Tensor) -> None:
    """states @ weight.T into `output`, [num_tokens, out_features] in one piece of memory; see :func:`linear`."""
    if torchs.TAKES_MKL or not fits(states, weight):
        torch.mm(states, weight.T, out=output)
    else:
        _launch(states, weight, None, output)


def fits(states: Tensor, weight: Tensor) -> bool:
    """Whether out_features are a multiple of 4 and in_features of a vector's numbers (16 with AVX-512, else 8), and a
    row's numbers lie side by side."""
    return (
        weight.shape[0] % ROWS == 0
        and weight.shape[1] % code.vector_length() == 0
        and weight.stride(1) == 1
        and states.stride(1) == 1
    )


def _launch(states: Tensor, weight: Tensor, bias: Tensor | None, output: Tensor) -> None:
    threads.run(
        code.address("linear_kernel", code.vector_length()),
        [
            states.data_ptr(),
            states.stride(0),
            *states.shape,
            weight.data_ptr(),
            weight.stride(0),
            len(weight),
            0 if bias is None else bias.data_ptr(),
            output.data_ptr(),
        ],
        [],
    )

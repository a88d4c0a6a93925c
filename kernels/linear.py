"""Matrix times vectors, as every projection needs it: the definition, and what is fast on an x86 CPU.

In float32 on a CPU, `torch.nn.functional.linear` goes to MKL's sgemm, which is at its best on Intel's processors alone.
There (Xeon with AVX-512, two cores, torch 2.13) it is faster than what follows by 1.3 to 6 times where matrices have
up to 1,000 rows and there are up to 16 vectors, and as fast for larger ones; so there it is taken.

On others one row is a single thread's work for it, which reads the weights at a third of what the memory gives, and
more rows are slower than oneDNN's product (AMD EPYC with AVX-512, two cores, torch 2.13: one row 3 times, 2 to 16 rows
1.5 to 4 times, 32 to 256 rows 1.2 to 1.5 times). So one row is taken as a batch of products, each with a share of the
weights' rows, at least one a thread; also on a single thread, where MKL's batched product reads 1.6 times faster than
its plain one. More rows go to oneDNN. Other dtypes go to oneDNN by themselves.
"""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.processor import is_intel

MOST_SHARES_A_THREAD = 4  # shares of a weight's rows, where no smaller number of equal ones gives every thread one
HAS_ONEDNN: bool = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
TAKES_MKL: bool = is_intel() and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]

# Up to the first number, rows are rounded up to a multiple of the second: 45 numbers in all up to 1,024, and from 16
# rows on less than a quarter more.
ROW_STEPS = ((16, 2), (32, 4), (64, 8), (256, 16), (512, 32))
LARGEST_ROW_STEP = 64


def padded_rows(num_rows: int) -> int:
    """The number of rows that products are made for, at least `num_rows`; 1 is left alone, and all are where MKL, which
    keeps nothing for each number, computes them."""
    if num_rows < 2 or TAKES_MKL:
        return num_rows
    step = next((step for most, step in ROW_STEPS if num_rows <= most), LARGEST_ROW_STEP)
    return -(-num_rows // step) * step


def linear_reference(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """states @ weight.T + bias.

    Args:
        states: [num_tokens, in_features]; weight: [out_features, in_features]; bias: [out_features].

    Returns:
        [num_tokens, out_features], the states' dtype.
    """
    return F.linear(states, weight, bias)


def linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`linear_reference`, the fastest way for where the tensors are; equal up to the rounding of sums.

    It has no gradient.
    """
    if TAKES_MKL or states.device.type != "cpu" or states.dtype != torch.float32 or not len(states):
        return F.linear(states, weight, bias)
    if len(states) == 1 and (shares := _shares(len(weight), torch.get_num_threads())) > 1:
        return _one_row(states, weight, bias, shares)
    if not HAS_ONEDNN:
        return F.linear(states, weight, bias)
    num_rows = len(states)
    if (padded := padded_rows(num_rows)) != num_rows:
        more = states.new_zeros(padded, states.shape[1])
        more[:num_rows] = states
        states = more
    product: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return product[:num_rows]


def _one_row(states: Tensor, weight: Tensor, bias: Tensor | None, shares: int) -> Tensor:
    out_features, in_features = weight.shape
    matrices = weight.view(shares, out_features // shares, in_features)
    vectors = states.T.expand(shares, in_features, 1)  # these strides: with others the product is three times slower
    if bias is None:
        return torch.bmm(matrices, vectors).view(1, out_features)
    return torch.baddbmm(bias.view(shares, out_features // shares, 1), matrices, vectors).view(1, out_features)


def _shares(rows: int, num_threads: int) -> int:
    """The smallest number of equal shares, at least two and one a thread; 1 where there is none."""
    least = max(2, num_threads)
    return next((shares for shares in range(least, MOST_SHARES_A_THREAD * least + 1) if rows % shares == 0), 1)

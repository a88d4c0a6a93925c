"""A small kernel with cases as the files of `kernels.gpu` have them, good and bad, for the tests of the programs that
compile and time them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.cases import BenchCall, BenchCase, CompileCase

WIDTH = 1024


@triton.jit
def double_rows(states, rows, output, stride, width, WIDTH: tl.constexpr):
    """output[i] = 2 * softmax of row rows[i]: every entry is needed until the largest is known."""
    program = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + program)
    columns = tl.arange(0, WIDTH)
    mask = columns < width
    values = tl.load(states + row * stride + columns, mask=mask, other=-float("inf")).to(tl.float32)
    powers = tl.exp(values - tl.max(values))
    tl.store(output + program * stride + columns, 2 * powers / tl.sum(powers), mask=mask)


def compile_cases() -> list[CompileCase]:
    """One that is in order, then: rows of any length, a tile that one warp cannot hold, a tile of no power of two."""
    good = CompileCase(
        name="double_rows good",
        kernel=double_rows,
        signature={"states": "*bf16", "rows": "*i64", "output": "*bf16", "stride": "i32", "width": "i32"},
        constants={"WIDTH": WIDTH},
        divisible_by_16=("states", "rows", "output", "stride", "width"),
    )
    return [
        good,
        replace(good, name="double_rows scalar", divisible_by_16=("states", "rows", "output")),
        replace(good, name="double_rows spills", constants={"WIDTH": 16 * WIDTH}, num_warps=1),
        replace(good, name="double_rows broken", constants={"WIDTH": WIDTH - 1}),
    ]


def bench_case(
    kernel: Callable[[Tensor], Tensor], peers: dict[str, Callable[[Tensor], Tensor]] | None = None
) -> BenchCase:
    """A case whose reference doubles its input; `kernel` is what is said to do the same."""

    def states(device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0)).to(device, dtype)

    def make(device: torch.device, dtype: torch.dtype) -> BenchCall:
        made = states(device, dtype)
        return BenchCall(
            kernel=lambda: kernel(made),
            reference=lambda: 2 * made,
            num_bytes=2 * made.numel() * made.element_size(),
            num_flops=made.numel(),
        )

    def peer(function: Callable[[Tensor], Tensor]) -> Callable[[torch.device, torch.dtype], Callable[[], Tensor]]:
        def made(device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
            inputs = states(device, dtype)
            return lambda: function(inputs)

        return made

    return BenchCase(
        name="double 64 x 1024",
        make=make,
        absolute=1e-3,
        relative=1e-3,
        peers={name: peer(function) for name, function in (peers or {}).items()},
    )


if __name__ == "__main__":  # in a process of its own, since an interpreted kernel cannot be compiled
    from kernels.gpu.compile.ahead_of_time import compile_kernel

    json.dump([asdict(compile_kernel(case, module="example", arch=90)) for case in compile_cases()], sys.stdout)

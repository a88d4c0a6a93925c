"""What every kernel file says of its kernels: how to compile them ahead of time, and how to check and time them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class CompileCase:
    """One kernel at one model's shape, for compiling without a GPU; a module lists its own in `compile_cases()`.

    Attributes:
        name: kernel and shape, such as "residual_layer_norm persimmon-8b bf16".
        kernel: the `triton.jit` function.
        signature: Triton types of the arguments that are no constants, in order, as {"x": "*bf16", "stride": "i32"}.
        constants: values of the `tl.constexpr` arguments.
        divisible_by_16: names of pointers and integers that are multiples of 16, as the launcher's tensors are.
        num_warps, num_stages: as launched.
        loads_16_bytes: whether the compiled code must read global memory 16 bytes at a time.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    divisible_by_16: tuple[str, ...] = ()
    num_warps: int = 4
    num_stages: int = 3
    loads_16_bytes: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchCall:
    """Tensors of a case, made.

    Attributes:
        kernel, reference: the same result, as one tensor or several; no arguments.
        num_bytes: moved to and from memory at least.
        num_flops: floating-point operations; 0 where memory is the limit in any case.
    """

    kernel: Callable[[], Any]
    reference: Callable[[], Any]
    num_bytes: int
    num_flops: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchCase:
    """One kernel at one shape, to be checked against its reference and then timed; in a module's `bench_cases()`.

    Attributes:
        name: kernel and shape.
        make: makes the tensors on a device in a dtype, from a fixed seed.
        absolute, relative: largest differences from the reference that are allowed, for `torch.testing.assert_close`.
        peers: other ways to the same result, by name, such as {"torch": ...}; made with the same arguments as `make`.
    """

    name: str
    make: Callable[[torch.device, torch.dtype], BenchCall]
    absolute: float
    relative: float
    peers: Mapping[str, Callable[[torch.device, torch.dtype], Callable[[], Any]]]

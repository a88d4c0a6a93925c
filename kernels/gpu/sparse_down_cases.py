"""Shapes that the sparse down-projection is compiled, checked and timed at: Persimmon-8B's, the one model it is for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.gpu import sparse_down
from kernels.gpu.cases import BenchCall, BenchCase, CompileCase
from kernels.sparse_down import sparse_down_projection_reference
from kernels.squared_relu import FP16_INPUT_LIMIT

INTERMEDIATE_SIZE, HIDDEN_SIZE = 16384, 4096


def compile_cases() -> list[CompileCase]:
    """Finding rows for 1 and 8 tokens, and summing them, in both dtypes: fp16 has scales besides."""
    cases = []
    for dtype in ("bf16", "fp16"):
        tables = {"states": f"*{dtype}", "rows": "*i32", "counts": "*i32", "largest": "*fp32"}
        sizes = ("token_stride", "weight_stride", "num_rows", "hidden_size")
        for tokens in (1, 8):
            cases.append(
                CompileCase(
                    name=f"find_live_rows persimmon-8b {tokens} {dtype}",
                    kernel=sparse_down.find_live_rows,
                    signature={
                        **tables,
                        "is_token": "*i64",
                        "token_stride": "i32",
                        "num_rows": "i32",
                        "num_tokens": "i32",
                    },
                    constants={
                        "HAS_LARGEST": dtype == "fp16",
                        "HAS_PADDING": True,
                        "TOKENS": tokens,
                        "LIST_BLOCK": sparse_down.LIST_BLOCK,
                    },
                    divisible_by_16=(*tables, "token_stride", "num_rows"),
                    num_warps=sparse_down.find_warps(tokens),
                )
            )
        pointers = {**tables, "weight_t": f"*{dtype}", "partials": "*fp32", "live_counter": "*i64"}
        integers = (*sizes, "max_live", "num_tokens", "num_blocks")
        cases.append(
            CompileCase(
                name=f"sum_live_rows persimmon-8b {dtype}",
                kernel=sparse_down.sum_live_rows,
                signature={**pointers, **dict.fromkeys(integers, "i32")},
                constants={
                    "HAS_LARGEST": dtype == "fp16",
                    "HAS_COUNTER": True,
                    "INPUT_LIMIT": FP16_INPUT_LIMIT,
                    "BLOCKS": INTERMEDIATE_SIZE // sparse_down.LIST_BLOCK,
                    "LIST_BLOCK": sparse_down.LIST_BLOCK,
                    "BLOCK_T": sparse_down.BLOCK_T,
                    "BLOCK_R": sparse_down.BLOCK_R,
                    "BLOCK_H": sparse_down.BLOCK_H,
                },
                divisible_by_16=(*pointers, *sizes),
                num_warps=sparse_down.NUM_WARPS,
                num_stages=sparse_down.NUM_STAGES,
            )
        )
    return cases


def bench_cases() -> list[BenchCase]:
    """Batches of 1 to 8 with given shares of zeros, independent from token to token.

    The time includes adding up the partial sums, a launch that the following norm saves; the peer, cuBLAS on the dense
    matrix, is given its squares ready made.
    """
    return [
        BenchCase(
            name=f"sparse_down persimmon-8b batch {num_tokens}, {zeros:.0%} zeros",
            make=partial(_make, num_tokens=num_tokens, zeros=zeros),
            absolute=1e-2,  # a peer's result is rounded to 8 or 11 bits
            relative=1e-2,
            peers={"cuBLAS dense": partial(_dense, num_tokens=num_tokens, zeros=zeros)},
        )
        for num_tokens in (1, 2, 4, 8)
        for zeros in (0.5, 0.8, 0.9, 0.95)
    ]


def _tensors(device: torch.device, dtype: torch.dtype, *, num_tokens: int, zeros: float) -> tuple[Tensor, Tensor]:
    """States [num_tokens, 16384] of which the share `zeros` is negative, and a matrix [16384, 4096]."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (num_tokens, INTERMEDIATE_SIZE)
    sizes = torch.randn(shape, generator=generator, device=device).abs()
    is_zero = torch.rand(shape, generator=generator, device=device) < zeros
    weight_t = torch.randn((INTERMEDIATE_SIZE, HIDDEN_SIZE), generator=generator, device=device)
    return torch.where(is_zero, -sizes, sizes).to(dtype), (weight_t * INTERMEDIATE_SIZE**-0.5).to(dtype)


def _make(device: torch.device, dtype: torch.dtype, *, num_tokens: int, zeros: float) -> BenchCall:
    states, weight_t = _tensors(device, dtype, num_tokens=num_tokens, zeros=zeros)
    num_live = int((states > 0).any(dim=0).sum())
    if num_live > int(sparse_down.MAX_LIVE_FRACTION * INTERMEDIATE_SIZE):
        num_live = INTERMEDIATE_SIZE
    return BenchCall(
        kernel=lambda: sparse_down.sparse_down_projection(states, weight_t).sum(dim=0),
        reference=lambda: sparse_down_projection_reference(states, weight_t).sum(dim=0),
        num_bytes=states.nbytes + num_live * HIDDEN_SIZE * weight_t.element_size() + 4 * num_tokens * HIDDEN_SIZE,
    )


def _dense(device: torch.device, dtype: torch.dtype, *, num_tokens: int, zeros: float) -> Callable[[], Any]:
    states, weight_t = _tensors(device, dtype, num_tokens=num_tokens, zeros=zeros)
    squares, weight = F.relu(states).square(), weight_t.T.contiguous()
    return lambda: F.linear(squares, weight).float()

"""Few vectors times a matrix, or many with fixed tiles: every weight is read once, straight through.

A program takes `BLOCK_N` rows of the matrix and a share of their length (split-K, so that small matrices fill a GPU
too) and multiplies them with 16 tokens, the least of a tensor core's product. Sums are in float32. The tiles and the
splits depend on the matrix alone and a token's sum on nothing but its own entries: its result is the same bits in any
batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.cases import BenchCall, BenchCase, CompileCase

PROGRAMS_WANTED = 528  # four for each of an H100's 132 multiprocessors
MOST_SPLITS = 8
BLOCK_T = 16
BLOCK_N = 32
NUM_WARPS = 4
BLOCK_ADDED = 1024  # entries of a row of partial sums


@triton.jit
def multiply_rows(
    states,
    weight,
    bias,
    output,  # [num_tokens, out_features], or if split [num_splits, num_tokens, out_features] float32
    token_stride,
    weight_stride,
    num_tokens,
    in_features,
    out_features,
    HAS_BIAS: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Grid (cdiv(num_tokens, BLOCK_T), cdiv(out_features, BLOCK_N), num_splits): tokens vary fastest, so that the
    weights that they share are in the L2 cache."""
    split, num_splits = tl.program_id(2), tl.num_programs(2)
    tokens = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    rows = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_token, is_row = tokens < num_tokens, rows < out_features
    num_tiles = tl.cdiv(in_features, BLOCK_K)
    begin = num_tiles * split // num_splits * BLOCK_K
    end = num_tiles * (split + 1) // num_splits * BLOCK_K
    state_rows = states + tokens[:, None].to(tl.int64) * token_stride
    weight_rows = weight + rows[:, None].to(tl.int64) * weight_stride
    sums = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
    for first in tl.range(begin, end, BLOCK_K):
        depth = first + tl.arange(0, BLOCK_K)
        inside = (depth < in_features)[None, :]
        x = tl.load(state_rows + depth[None, :], mask=is_token[:, None] & inside, other=0.0)
        w = tl.load(weight_rows + depth[None, :], mask=is_row[:, None] & inside, other=0.0)
        sums = tl.dot(x, tl.trans(w), acc=sums, input_precision="ieee")
    if HAS_BIAS:
        sums += tl.load(bias + rows, mask=is_row, other=0.0).to(tl.float32)[None, :]
    token_rows = tokens.to(tl.int64)
    if IS_SPLIT:
        token_rows += split.to(tl.int64) * num_tokens
    tl.store(
        output + token_rows[:, None] * out_features + rows[None, :],
        sums.to(output.dtype.element_ty),
        mask=is_token[:, None] & is_row[None, :],
    )


@triton.jit
def add_partials(
    partials,
    bias,
    output,
    partial_stride,
    out_features,
    NUM_PARTIALS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (num_tokens, cdiv(out_features, BLOCK))."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < out_features
    pointers = partials + row * out_features + columns
    total = tl.load(pointers, mask=mask, other=0.0)
    for _ in tl.static_range(1, NUM_PARTIALS):
        pointers += partial_stride
        total += tl.load(pointers, mask=mask, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(output + row * out_features + columns, total.to(output.dtype.element_ty), mask=mask)


def gemv(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`kernels.linear.linear_reference`: [num_tokens, in_features] -> [num_tokens, out_features]. Where the
    matrix is split, the partial sums are added in float32 and in their order by a second kernel.

    Raises:
        ValueError: dtypes or sizes do not fit, or entries of a row are not side by side.
    """
    if splits(len(weight)) == 1:
        return _launch(states, weight, bias, is_split=False)
    partials = gemv_partials(states, weight)
    num_partials, num_tokens, out_features = partials.shape
    output = torch.empty((num_tokens, out_features), dtype=states.dtype, device=states.device)
    if num_tokens:
        add_partials[(num_tokens, triton.cdiv(out_features, BLOCK_ADDED))](
            partials, partials if bias is None else bias, output, partials.stride(0), out_features,
            NUM_PARTIALS=num_partials, HAS_BIAS=bias is not None, BLOCK=BLOCK_ADDED, num_warps=NUM_WARPS,
        )  # fmt: skip
    return output


def gemv_partials(states: Tensor, weight: Tensor) -> Tensor:
    """states @ weight.T as partial sums [num_partials, num_tokens, out_features] float32, which
    `kernels.gpu.residual_norm` adds up."""
    return _launch(states, weight, None, is_split=True)


def splits(out_features: int) -> int:
    """Number of partial sums: with the tiles of rows, at most `PROGRAMS_WANTED` programs for 16 tokens."""
    return min(max(PROGRAMS_WANTED // triton.cdiv(out_features, BLOCK_N), 1), MOST_SPLITS)


def _launch(states: Tensor, weight: Tensor, bias: Tensor | None, *, is_split: bool) -> Tensor:
    num_tokens, in_features = states.shape
    out_features = len(weight)
    if weight.dtype != states.dtype or weight.shape[1] != in_features:
        raise ValueError(
            f"weight is {list(weight.shape)} {weight.dtype}: states {list(states.shape)} {states.dtype} need rows of "
            f"{in_features} entries of the same dtype"
        )
    if states.stride(1) != 1 or weight.stride(1) != 1:
        raise ValueError("the entries of a row of states and of weight must be side by side")
    num_splits = splits(out_features) if is_split else 1
    shape = (num_splits, num_tokens, out_features) if is_split else (num_tokens, out_features)
    output = torch.empty(shape, dtype=torch.float32 if is_split else states.dtype, device=states.device)
    if num_tokens == 0:
        return output
    multiply_rows[(triton.cdiv(num_tokens, BLOCK_T), triton.cdiv(out_features, BLOCK_N), num_splits)](
        states, weight, weight if bias is None else bias, output, states.stride(0), weight.stride(0),
        num_tokens, in_features, out_features,
        HAS_BIAS=bias is not None, IS_SPLIT=is_split, **tile(states.dtype.itemsize), num_warps=NUM_WARPS,
        num_stages=num_stages(states.dtype.itemsize),
    )  # fmt: skip
    return output


def tile(itemsize: int) -> dict[str, int]:
    """Sizes of a tile: of the weights, 8 KiB in 2 bytes an entry and 4 KiB in 4."""
    return {"BLOCK_T": BLOCK_T, "BLOCK_N": BLOCK_N, "BLOCK_K": 128 if itemsize == 2 else 32}


def num_stages(itemsize: int) -> int:
    """Tiles under way: enough that three programs of a multiprocessor have 96 KiB of weights on their way."""
    return 5 if itemsize == 2 else 3


# model -> matrices as (in_features, out_features, whether it has a bias)
MATRICES = {
    "persimmon-8b qkv": (4096, 12288, True),
    "persimmon-8b dense": (4096, 4096, True),
    "persimmon-8b up": (4096, 16384, True),
    "persimmon-8b head": (4096, 262_144, False),
    "llama-2-7b qkv": (4096, 12288, False),
    "llama-2-7b gate and up": (4096, 22016, False),
    "llama-2-7b down": (11008, 4096, False),
    "mpt-7b down": (16384, 4096, False),
}
COMPILED = (("persimmon-8b qkv", "bf16"), ("persimmon-8b qkv", "fp16"), ("llama-2-7b down", "bf16"))


def compile_cases() -> list[CompileCase]:
    """With a bias, and split; sizes are no constants, so that these serve all matrices. float32 is for checking."""
    pointers = ("states", "weight", "bias", "output")
    sizes = ("token_stride", "weight_stride", "in_features", "out_features")
    cases = []
    for matrix, dtype in (*COMPILED, ("persimmon-8b qkv", "fp32")):
        _, out_features, has_bias = MATRICES[matrix]
        is_split = splits(out_features) > 1
        itemsize = 4 if dtype == "fp32" else 2
        cases.append(
            CompileCase(
                name=f"multiply_rows {matrix}{', split' if is_split else ''} {dtype}",
                kernel=multiply_rows,
                signature={
                    **dict.fromkeys(pointers, f"*{dtype}"),
                    **({"output": "*fp32"} if is_split else {}),
                    **dict.fromkeys((*sizes, "num_tokens"), "i32"),
                },
                constants={"HAS_BIAS": has_bias and not is_split, "IS_SPLIT": is_split, **tile(itemsize)},
                divisible_by_16=(*pointers, *sizes),
                num_warps=NUM_WARPS,
                num_stages=num_stages(itemsize),
            )
        )
    added, sizes = ("partials", "bias", "output"), ("partial_stride", "out_features")
    return [
        *cases,
        CompileCase(
            name=f"add_partials {splits(4096)} bf16",
            kernel=add_partials,
            signature=dict.fromkeys(added, "*bf16") | {"partials": "*fp32"} | dict.fromkeys(sizes, "i32"),
            constants={"NUM_PARTIALS": splits(4096), "HAS_BIAS": True, "BLOCK": BLOCK_ADDED},
            divisible_by_16=(*added, *sizes),
            num_warps=NUM_WARPS,
        ),
    ]


def bench_cases() -> list[BenchCase]:
    """Every matrix for 1 to 8 tokens, against cuBLAS. The bound is a step of bfloat16."""
    return [
        BenchCase(
            name=f"gemv {matrix} x {num_tokens}",
            make=partial(_make, matrix=matrix, num_tokens=num_tokens),
            absolute=2e-2,
            relative=1e-2,
            peers={"cuBLAS": partial(_cublas, matrix=matrix, num_tokens=num_tokens)},
        )
        for matrix in MATRICES
        for num_tokens in (1, 2, 4, 8)
    ]


def _tensors(
    device: torch.device, dtype: torch.dtype, *, matrix: str, num_tokens: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    in_features, out_features, has_bias = MATRICES[matrix]
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype)

    weight = normal(out_features, in_features).mul_(in_features**-0.5)
    return normal(num_tokens, in_features), weight, normal(out_features) if has_bias else None


def _make(device: torch.device, dtype: torch.dtype, *, matrix: str, num_tokens: int) -> BenchCall:
    states, weight, bias = _tensors(device, dtype, matrix=matrix, num_tokens=num_tokens)
    return BenchCall(
        kernel=lambda: gemv(states, weight, bias),
        reference=lambda: F.linear(states, weight, bias),
        num_bytes=weight.nbytes + states.nbytes + num_tokens * len(weight) * weight.element_size(),
        num_flops=2 * num_tokens * weight.numel(),
    )


def _cublas(device: torch.device, dtype: torch.dtype, *, matrix: str, num_tokens: int) -> Callable[[], Tensor]:
    states, weight, bias = _tensors(device, dtype, matrix=matrix, num_tokens=num_tokens)
    return lambda: F.linear(states, weight, bias)

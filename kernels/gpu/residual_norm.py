"""Residual sum and norm in one pass over a row: one program a row, each of its threads with 8 entries.

Every input is read once and stays in registers between the sum and the norm. Partial sums are added in their order,
and nothing depends on the number of rows, so a row's result is the same bits in any batch.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.cases import BenchCall, BenchCase, CompileCase
from kernels.residual_norm import residual_layer_norm_reference, residual_rms_norm_reference

ENTRIES_PER_WARP = 32 * 8  # 8 entries of 2 bytes are one load of 16
MOST_WARPS = 16


@triton.jit
def residual_norm(
    residual,
    delta,
    delta_bias,
    weight,
    bias,
    summed,
    normed,
    residual_stride,
    partial_stride,
    delta_stride,
    hidden_size,
    eps,
    NUM_PARTIALS: tl.constexpr,  # 0: no delta
    HAS_DELTA_BIAS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IS_RMS: tl.constexpr,
    BLOCK: tl.constexpr,  # power of two, at least hidden_size
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < hidden_size
    dtype: tl.constexpr = normed.dtype.element_ty
    states = tl.load(residual + row * residual_stride + columns, mask=mask, other=0.0)
    if NUM_PARTIALS > 0:
        pointers = delta + row * delta_stride + columns
        total = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
        for _ in tl.static_range(1, NUM_PARTIALS):
            pointers += partial_stride
            total += tl.load(pointers, mask=mask, other=0.0)
        if HAS_DELTA_BIAS:
            total += tl.load(delta_bias + columns, mask=mask, other=0.0).to(tl.float32)
        states = (states.to(tl.float32) + total).to(dtype)
        tl.store(summed + row * hidden_size + columns, states, mask=mask)
    states = states.to(tl.float32)
    factor = tl.load(weight + columns, mask=mask, other=0.0).to(tl.float32)
    if IS_RMS:
        scale = tl.rsqrt(tl.sum(states * states, axis=0) / hidden_size + eps)
        result = (states * scale).to(dtype).to(tl.float32) * factor
    else:
        mean = tl.sum(states, axis=0) / hidden_size
        centred = tl.where(mask, states - mean, 0.0)
        scale = tl.rsqrt(tl.sum(centred * centred, axis=0) / hidden_size + eps)
        result = centred * scale * factor
        if HAS_BIAS:
            result += tl.load(bias + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(normed + row * hidden_size + columns, result.to(dtype), mask=mask)


def residual_layer_norm(
    residual: Tensor,
    delta: Tensor | None,
    delta_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """As :func:`kernels.residual_norm.residual_layer_norm_reference`; rows may be strided, their entries not.

    Raises:
        ValueError: there is a delta_bias without a delta, or the entries of a row are not side by side.
    """
    return _launch(residual, delta, delta_bias, weight, bias, eps=eps, is_rms=False)


def residual_rms_norm(
    residual: Tensor, delta: Tensor | None, delta_bias: Tensor | None, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """As :func:`kernels.residual_norm.residual_rms_norm_reference`; see :func:`residual_layer_norm`."""
    return _launch(residual, delta, delta_bias, weight, None, eps=eps, is_rms=True)


def _launch(
    residual: Tensor,
    delta: Tensor | None,
    delta_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    eps: float,
    is_rms: bool,
) -> tuple[Tensor, Tensor]:
    if delta is None and delta_bias is not None:
        raise ValueError("delta_bias is given without a delta: it is added to one only")
    for name, tensor in (("residual", residual), ("delta", delta)):
        if tensor is not None and tensor.stride(-1) != 1:
            raise ValueError(f"{name} has entries {tensor.stride(-1)} apart in a row: they must be side by side")
    num_tokens, hidden_size = residual.shape
    normed = torch.empty((num_tokens, hidden_size), dtype=residual.dtype, device=residual.device)
    partials = None if delta is None else delta.unsqueeze(0) if delta.dim() == 2 else delta
    summed = residual if partials is None else torch.empty_like(normed)
    block = triton.next_power_of_2(hidden_size)
    residual_norm[(num_tokens,)](
        residual,
        residual if partials is None else partials,
        weight if delta_bias is None else delta_bias,
        weight,
        weight if bias is None else bias,
        summed,
        normed,
        residual.stride(0),
        0 if partials is None else partials.stride(0),
        0 if partials is None else partials.stride(1),
        hidden_size,
        eps,
        NUM_PARTIALS=0 if partials is None else len(partials),
        HAS_DELTA_BIAS=delta_bias is not None,
        HAS_BIAS=bias is not None,
        IS_RMS=is_rms,
        BLOCK=block,
        num_warps=_num_warps(block),
    )
    return summed, normed


def _num_warps(block: int) -> int:
    return min(max(block // ENTRIES_PER_WARP, 1), MOST_WARPS)


def compile_cases() -> list[CompileCase]:
    """Rows of 4096 entries, which all three models have."""
    tensors = ("residual", "delta", "delta_bias", "weight", "bias", "summed", "normed")
    integers = ("residual_stride", "partial_stride", "delta_stride", "hidden_size")
    return [
        CompileCase(
            name=f"residual_norm {model} {num_partials} {'partials' if is_partial else 'delta'} {dtype}",
            kernel=residual_norm,
            signature={
                **dict.fromkeys(tensors, f"*{dtype}"),
                **({"delta": "*fp32"} if is_partial else {}),
                **dict.fromkeys(integers, "i32"),
                "eps": "fp32",
            },
            constants={
                "NUM_PARTIALS": num_partials,
                "HAS_DELTA_BIAS": is_partial and model == "persimmon-8b",
                "HAS_BIAS": model == "persimmon-8b",
                "IS_RMS": model == "llama-2-7b",
                "BLOCK": 4096,
            },
            divisible_by_16=(*tensors, *integers),
            num_warps=_num_warps(4096),
        )
        for model in ("persimmon-8b", "llama-2-7b", "mpt-7b")
        for dtype, num_partials, is_partial in (("bf16", 1, False), ("bf16", 16, True), ("fp16", 4, True))
    ]


def _make(device: torch.device, dtype: torch.dtype, *, num_tokens: int, num_partials: int, is_rms: bool) -> BenchCall:
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    residual, weight, bias, delta_bias = normal(num_tokens, 4096), 1 + normal(4096) / 8, normal(4096), normal(4096)
    delta = normal(num_tokens, 4096)
    if num_partials:
        delta = normal(num_partials, num_tokens, 4096, dtype=torch.float32)
    read = (residual, delta, weight, delta_bias) if is_rms else (residual, delta, weight, delta_bias, bias)
    num_bytes = sum(tensor.nbytes for tensor in (*read, residual, residual))  # the sum and the norm are written
    if is_rms:
        rms = (residual, delta, delta_bias, weight)
        return BenchCall(
            kernel=lambda: residual_rms_norm(*rms, eps=1e-5),
            reference=lambda: residual_rms_norm_reference(*rms, eps=1e-5),
            num_bytes=num_bytes,
        )
    layer = (residual, delta, delta_bias, weight, bias)
    return BenchCall(
        kernel=lambda: residual_layer_norm(*layer, eps=1e-5),
        reference=lambda: residual_layer_norm_reference(*layer, eps=1e-5),
        num_bytes=num_bytes,
    )


def bench_cases() -> list[BenchCase]:
    """A decoded token's rows, with and without partial sums, and a prefill's.

    The bound is one step of bfloat16 at the size of the largest entries: where the sums in float32 differ in their last
    bit, a rounding may go the other way.
    """
    return [
        BenchCase(
            name=f"residual_{'rms' if is_rms else 'layer'}_norm {num_tokens} x 4096, "
            + (f"{num_partials} partials" if num_partials else "one delta"),
            make=partial(_make, num_tokens=num_tokens, num_partials=num_partials, is_rms=is_rms),
            absolute=2e-2,
            relative=1e-2,
            peers={},
        )
        for is_rms in (False, True)
        for num_tokens, num_partials in ((1, 0), (1, 8), (8, 8), (64, 0), (4096, 0))
    ]

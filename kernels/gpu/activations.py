"""Activations with the bias before them: every entry is read once and written once, 16 bytes a thread and more.

A program takes a piece of one row, so that a row's bias needs no division to find; pieces are larger where there are
many rows. No entry depends on another, so the pieces' size changes no bit. Squares in float16 depend on the row's
largest entry: there a program takes a whole row.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.activations import (
    LARGEST_EXPONENT,
    SquaredRelu,
    bias_gelu_reference,
    bias_relu_squared_reference,
    swiglu_reference,
)
from kernels.gpu.cases import BenchCall, BenchCase, CompileCase
from kernels.squared_relu import FP16_INPUT_LIMIT

FEW_ROWS = 64  # below, smaller pieces, so that every multiprocessor has one
BLOCK_FEW, BLOCK_MANY = 1024, 4096
NUM_WARPS = 4
ROW_WARPS = 16


@triton.jit
def activate(
    states,
    other,  # a bias, or what the result is multiplied by; any pointer if there is neither
    output,
    stride,
    other_stride,
    width,
    KIND: tl.constexpr,  # "relu_squared", "gelu" or "swiglu"
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < width
    dtype: tl.constexpr = output.dtype.element_ty
    values = tl.load(states + row * stride + columns, mask=mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        values += tl.load(other + columns, mask=mask, other=0.0).to(tl.float32)
    if KIND == "relu_squared":
        # a NaN stays one, as in torch: a comparison with it is false, so it is what is kept
        values = tl.where(values <= 0, 0.0, values)
        values = values * values
    elif KIND == "gelu":
        values = 0.5 * values * (1 + tl.erf(values * 0.7071067811865476))  # 1 / sqrt(2)
    else:
        up = tl.load(other + row * other_stride + columns, mask=mask, other=0.0).to(tl.float32)
        values = (values / (1 + tl.exp(-values))).to(dtype).to(tl.float32) * up
    tl.store(output + row * width + columns, values.to(dtype), mask=mask)


@triton.jit
def square_rows(
    states,
    bias,
    output,
    scales,  # [num_tokens]
    stride,
    width,
    HAS_BIAS: tl.constexpr,
    INPUT_LIMIT: tl.constexpr,
    LARGEST_EXPONENT: tl.constexpr,
    BLOCK: tl.constexpr,  # power of two, at least width
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    values = tl.load(states + row * stride + columns, mask=mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        values += tl.load(bias + columns, mask=mask, other=0.0).to(tl.float32)
    values = tl.where(values <= 0, 0.0, values)
    # 2^e with largest / limit = m * 2^e, m in [0.5, 1)
    exponent = ((tl.max(values, axis=0) / INPUT_LIMIT).to(tl.int32, bitcast=True) >> 23) - 126
    exponent = tl.minimum(tl.maximum(exponent, 0), LARGEST_EXPONENT)
    scale = ((exponent + 127) << 23).to(tl.float32, bitcast=True)
    values = values / scale
    tl.store(output + row * width + columns, (values * values).to(output.dtype.element_ty), mask=mask)
    tl.store(scales + row, scale.to(scales.dtype.element_ty))


def bias_relu_squared(states: Tensor, bias: Tensor | None) -> SquaredRelu:
    """As :func:`kernels.activations.bias_relu_squared_reference`; rows may be strided, their entries not.

    Raises:
        ValueError: the entries of a row are not side by side.
    """
    if states.dtype != torch.float16:
        return SquaredRelu(_launch(states, bias, kind="relu_squared"), None)
    _require_adjoining(states)
    num_tokens, width = states.shape
    squares = torch.empty((num_tokens, width), dtype=states.dtype, device=states.device)
    scale = torch.empty((num_tokens, 1), dtype=states.dtype, device=states.device)
    if num_tokens:
        square_rows[(num_tokens,)](
            states, states if bias is None else bias, squares, scale, states.stride(0), width,
            HAS_BIAS=bias is not None, **_row_constants(width), num_warps=ROW_WARPS,
        )  # fmt: skip
    return SquaredRelu(squares, scale)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """As :func:`kernels.activations.swiglu_reference`; see :func:`bias_relu_squared`.

    Raises:
        ValueError: shapes differ, or the entries of a row are not side by side.
    """
    if gate.shape != up.shape:
        raise ValueError(f"gate is {list(gate.shape)} and up {list(up.shape)}: they must be alike")
    _require_adjoining(up)
    return _launch(gate, up, kind="swiglu")


def bias_gelu(states: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`kernels.activations.bias_gelu_reference`; see :func:`bias_relu_squared`."""
    return _launch(states, bias, kind="gelu")


def _launch(states: Tensor, other: Tensor | None, *, kind: str) -> Tensor:
    _require_adjoining(states)
    num_tokens, width = states.shape
    output = torch.empty((num_tokens, width), dtype=states.dtype, device=states.device)
    block = BLOCK_FEW if num_tokens < FEW_ROWS else BLOCK_MANY
    activate[(num_tokens, triton.cdiv(width, block))](
        states,
        states if other is None else other,
        output,
        states.stride(0),
        0 if other is None else other.stride(0),
        width,
        KIND=kind,
        HAS_BIAS=other is not None and kind != "swiglu",
        BLOCK=block,
        num_warps=NUM_WARPS,
    )
    return output


def _require_adjoining(states: Tensor) -> None:
    if states.stride(-1) != 1:
        raise ValueError(f"the states have entries {states.stride(-1)} apart in a row: they must be side by side")


def _row_constants(width: int) -> dict[str, float | int]:
    return {
        "INPUT_LIMIT": FP16_INPUT_LIMIT,
        "LARGEST_EXPONENT": LARGEST_EXPONENT,
        "BLOCK": triton.next_power_of_2(width),
    }


# kind -> model, intermediate size, whether the matrix's bias is added here
MODELS = {
    "relu_squared": ("persimmon-8b", 16384, True),
    "swiglu": ("llama-2-7b", 11008, False),
    "gelu": ("mpt-7b", 16384, False),
}


def compile_cases() -> list[CompileCase]:
    """Each model's activation, few rows and many; fp16 squares whole rows."""
    names = ("states", "other", "output", "stride", "other_stride", "width")
    cases = [
        CompileCase(
            name=f"{kind} {model} block {block} {dtype}",
            kernel=activate,
            signature={**dict.fromkeys(names[:3], f"*{dtype}"), **dict.fromkeys(names[3:], "i32")},
            constants={"KIND": kind, "HAS_BIAS": has_bias, "BLOCK": block},
            divisible_by_16=names,
            num_warps=NUM_WARPS,
        )
        for kind, (model, _, has_bias) in MODELS.items()
        for dtype, block in (("bf16", BLOCK_FEW), ("bf16", BLOCK_MANY), ("fp16", BLOCK_FEW))
        if kind != "relu_squared" or dtype != "fp16"
    ]
    pointers, integers = ("states", "bias", "output", "scales"), ("stride", "width")
    model, width, has_bias = MODELS["relu_squared"]
    return [
        *cases,
        CompileCase(
            name=f"relu_squared {model} rows fp16",
            kernel=square_rows,
            signature=dict.fromkeys(pointers, "*fp16") | dict.fromkeys(integers, "i32"),
            constants={"HAS_BIAS": has_bias, **_row_constants(width)},
            divisible_by_16=(*pointers, *integers),
            num_warps=ROW_WARPS,
        ),
    ]


def _make(device: torch.device, dtype: torch.dtype, *, kind: str, num_tokens: int) -> BenchCall:
    _, width, has_bias = MODELS[kind]
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    if kind == "swiglu":
        gate, up = normal(num_tokens, 2 * width).chunk(2, dim=1)  # one product's halves
        return BenchCall(
            kernel=lambda: swiglu(gate, up),
            reference=lambda: swiglu_reference(gate, up),
            num_bytes=3 * gate.nbytes,
        )
    states = normal(num_tokens, width)
    bias = normal(width) if has_bias else None
    kernel, reference = {
        "relu_squared": (bias_relu_squared, bias_relu_squared_reference),
        "gelu": (bias_gelu, bias_gelu_reference),
    }[kind]
    return BenchCall(
        kernel=lambda: kernel(states, bias),
        reference=lambda: reference(states, bias),
        num_bytes=2 * states.nbytes + (0 if bias is None else bias.nbytes),
    )


def bench_cases() -> list[BenchCase]:
    """A decoded token, a batch and a prefill. The bound is one step of bfloat16, where the error function or the
    exponential differs in its last bit."""
    return [
        BenchCase(
            name=f"{kind} {num_tokens} x {width}",
            make=partial(_make, kind=kind, num_tokens=num_tokens),
            absolute=1e-4,
            relative=1e-2,
            peers={},
        )
        for kind, (_, width, _) in MODELS.items()
        for num_tokens in (1, 64, 4096)
    ]

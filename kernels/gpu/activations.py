"""Activations with the bias before them: every entry is read once and written once, 16 bytes a thread and more.

A program takes a piece of one row, so that a row's bias needs no division to find; pieces are larger where there are
many rows. No entry depends on another, so the pieces' size changes no bit.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.activations import bias_gelu_reference, bias_relu_squared_reference, swiglu_reference
from kernels.gpu.cases import BenchCall, BenchCase, CompileCase

FEW_ROWS = 64  # below, smaller pieces, so that every multiprocessor has one
BLOCK_FEW, BLOCK_MANY = 1024, 4096
NUM_WARPS = 4


@triton.jit
def activate(
    states,
    bias,
    output,
    stride,
    width,  # of the output
    KIND: tl.constexpr,  # "relu_squared", "gelu", or "swiglu", whose rows hold 2 * width entries
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < width
    pointers = states + row * stride + columns
    dtype: tl.constexpr = output.dtype.element_ty
    values = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        values += tl.load(bias + columns, mask=mask, other=0.0).to(tl.float32)
    if KIND == "relu_squared":
        # a NaN stays one, as in torch: a comparison with it is false, so it is what is kept
        values = tl.where(values <= 0, 0.0, values)
        values = values * values
    elif KIND == "gelu":
        values = 0.5 * values * (1 + tl.erf(values * 0.7071067811865476))  # 1 / sqrt(2)
    else:
        up = tl.load(pointers + width, mask=mask, other=0.0).to(tl.float32)
        values = (values / (1 + tl.exp(-values))).to(dtype).to(tl.float32) * up
    tl.store(output + row * width + columns, values.to(dtype), mask=mask)


def bias_relu_squared(states: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`kernels.activations.bias_relu_squared_reference`; rows may be strided, their entries not.

    Raises:
        ValueError: the entries of a row are not side by side.
    """
    return _launch(states, bias, kind="relu_squared")


def swiglu(gate_up: Tensor) -> Tensor:
    """As :func:`kernels.activations.swiglu_reference`; see :func:`bias_relu_squared`.

    Raises:
        ValueError: the number of columns is odd, or the entries of a row are not side by side.
    """
    if gate_up.shape[-1] % 2:
        raise ValueError(f"gate_up has {gate_up.shape[-1]} columns: it must be gates and as many others")
    return _launch(gate_up, None, kind="swiglu")


def bias_gelu(states: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`kernels.activations.bias_gelu_reference`; see :func:`bias_relu_squared`."""
    return _launch(states, bias, kind="gelu")


def _launch(states: Tensor, bias: Tensor | None, *, kind: str) -> Tensor:
    if states.stride(-1) != 1:
        raise ValueError(f"the states have entries {states.stride(-1)} apart in a row: they must be side by side")
    num_tokens, width = states.shape
    width = width // 2 if kind == "swiglu" else width
    output = torch.empty((num_tokens, width), dtype=states.dtype, device=states.device)
    block = BLOCK_FEW if num_tokens < FEW_ROWS else BLOCK_MANY
    activate[(num_tokens, triton.cdiv(width, block))](
        states,
        states if bias is None else bias,
        output,
        states.stride(0),
        width,
        KIND=kind,
        HAS_BIAS=bias is not None,
        BLOCK=block,
        num_warps=NUM_WARPS,
    )
    return output


# kind -> model, intermediate size, whether the matrix's bias is added here
MODELS = {
    "relu_squared": ("persimmon-8b", 16384, True),
    "swiglu": ("llama-2-7b", 11008, False),
    "gelu": ("mpt-7b", 16384, False),
}


def compile_cases() -> list[CompileCase]:
    """Each model's activation, few rows and many."""
    names = ("states", "bias", "output", "stride", "width")
    return [
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
    ]


def _make(device: torch.device, dtype: torch.dtype, *, kind: str, num_tokens: int) -> BenchCall:
    _, width, has_bias = MODELS[kind]
    generator = torch.Generator(device).manual_seed(0)
    columns = 2 * width if kind == "swiglu" else width
    states = torch.randn((num_tokens, columns), generator=generator, device=device).to(dtype)
    bias = torch.randn((width,), generator=generator, device=device).to(dtype) if has_bias else None
    num_bytes = states.nbytes + num_tokens * width * states.element_size() + (0 if bias is None else bias.nbytes)
    if kind == "swiglu":
        return BenchCall(kernel=lambda: swiglu(states), reference=lambda: swiglu_reference(states), num_bytes=num_bytes)
    kernel, reference = {
        "relu_squared": (bias_relu_squared, bias_relu_squared_reference),
        "gelu": (bias_gelu, bias_gelu_reference),
    }[kind]
    return BenchCall(
        kernel=lambda: kernel(states, bias), reference=lambda: reference(states, bias), num_bytes=num_bytes
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

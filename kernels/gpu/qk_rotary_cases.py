"""Shapes that head norms, rotation and cache writing are compiled, checked and timed at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kernels.gpu import qk_rotary as gpu
from kernels.gpu.cases import BenchCall, BenchCase, CompileCase
from kernels.qk_rotary import HeadNorms, Rotation, qk_rotary_reference

BLOCK_SIZE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """`half` of the rotated dimensions, 0: keys and values are written alone."""

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    half: int
    has_norm: bool = False


SHAPES = (
    Shape(name="persimmon-8b", num_heads=64, num_kv_heads=64, head_dim=64, half=16, has_norm=True),
    Shape(name="llama-2-7b", num_heads=32, num_kv_heads=32, head_dim=128, half=64),
    Shape(name="mpt-7b", num_heads=32, num_kv_heads=32, head_dim=128, half=0),
    Shape(name="grouped 32/8", num_heads=32, num_kv_heads=8, head_dim=128, half=64),
)


def compile_cases() -> list[CompileCase]:
    """The models' shapes; all dtypes for the one with norms."""
    return [
        _compile_case(shape, dtype)
        for shape in SHAPES[:3]
        for dtype in ("bf16", "fp16", "fp32")
        if dtype == "bf16" or shape.has_norm
    ]


def _compile_case(shape: Shape, dtype: str) -> CompileCase:
    pointers = (
        "query", "key", "value", "turned", "key_cache", "value_cache", "cos", "sin",
        "query_weight", "query_bias", "key_weight", "key_bias",
    )  # fmt: skip
    strides = (
        "query_token_stride", "query_head_stride", "key_token_stride", "key_head_stride", "value_token_stride",
        "value_head_stride", "cos_stride", "slot_stride", "cache_head_stride",
    )  # fmt: skip
    counts = ("num_heads", "num_kv_heads")
    heads = gpu.heads_of_a_program(shape.num_heads, shape.head_dim)
    signature = dict.fromkeys(pointers, f"*{dtype}") | {"slot_mapping": "*i64", "eps": "fp32"}
    return CompileCase(
        name=f"qk_rotary {shape.name} {dtype}",
        kernel=gpu.qk_rotary_kernel,
        signature=signature | dict.fromkeys((*strides, *counts), "i32"),
        constants={**gpu.shape_constants(shape.head_dim, shape.half), "HAS_NORM": shape.has_norm, "HEADS": heads},
        divisible_by_16=(*pointers, *strides),
        num_warps=gpu.NUM_WARPS,
    )


def bench_cases() -> list[BenchCase]:
    """A decoded token, a batch and a prefill. The bound is a step of bfloat16 at entries of about 8: the definition
    rounds between the two products of a rotation, the kernel does not."""
    return [
        BenchCase(
            name=f"qk_rotary {shape.name} {num_tokens} tokens",
            make=partial(_make, shape=shape, num_tokens=num_tokens),
            absolute=6e-2,
            relative=1e-2,
            peers={},
        )
        for shape in SHAPES
        for num_tokens in (1, 64, 4096)
    ]


def _make(device: torch.device, dtype: torch.dtype, *, shape: Shape, num_tokens: int) -> BenchCall:
    generator = torch.Generator(device).manual_seed(0)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, device=device).to(dtype)

    rows = normal(num_tokens, shape.num_heads + 2 * shape.num_kv_heads, shape.head_dim)
    query, key, value = rows.split([shape.num_heads, shape.num_kv_heads, shape.num_kv_heads], dim=1)
    num_blocks = 1 + -(-num_tokens // BLOCK_SIZE)
    caches = torch.zeros((2, num_blocks, BLOCK_SIZE, shape.num_kv_heads, shape.head_dim), dtype=dtype, device=device)
    places = torch.randperm((num_blocks - 1) * BLOCK_SIZE, generator=generator, device=device)
    rotation = norms = None
    if shape.half:
        angles = torch.rand((num_tokens, shape.half), generator=generator, device=device) * 6
        rotation = Rotation(angles.cos().to(dtype), angles.sin().to(dtype))
    if shape.has_norm:
        norms = HeadNorms(*(normal(shape.head_dim) for _ in range(4)), eps=1e-5)
    arguments = (query, key, value, caches[0], caches[1])
    options = {
        "slot_mapping": BLOCK_SIZE + places[:num_tokens],
        "rotation": rotation,
        "norms": norms,
    }
    touched = (query, key, value) if shape.half else (key, value)
    return BenchCall(
        kernel=lambda: (gpu.qk_rotary(*arguments, **options), caches),
        reference=lambda: (qk_rotary_reference(*arguments, **options), caches),
        num_bytes=2 * sum(tensor.numel() for tensor in touched) * dtype.itemsize
        + (0 if rotation is None else rotation.cos.nbytes + rotation.sin.nbytes),
    )

"""Shapes that paged attention is compiled, checked and timed at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from kernels.gpu.cases import BenchCall, BenchCase, CompileCase
from kernels.gpu.paged_attention import (
    SHORT_QUERY,
    choose_tile,
    merge_splits_kernel,
    paged_attention,
    paged_attention_kernel,
)
from kernels.paged_attention import paged_attention_reference

PAGE = 16
FLASH_ATTN_PAGE = 256  # flash-attn's paged kernels take multiples of it
_TRITON_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Attention of one model. `bias_max` of its ALiBi, `None` without."""

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    bias_max: float | None = None


PERSIMMON = Shape(name="persimmon-8b", num_heads=64, num_kv_heads=64, head_dim=64)
LLAMA = Shape(name="llama-2-7b", num_heads=32, num_kv_heads=32, head_dim=128)
MPT = Shape(name="mpt-7b", num_heads=32, num_kv_heads=32, head_dim=128, bias_max=8.0)
GROUPED = Shape(name="grouped 32/8", num_heads=32, num_kv_heads=8, head_dim=128)


def compile_cases() -> list[CompileCase]:
    """Decoding with and without splits, checking of drafts, merging, prompts; one in float32, for checking."""
    cases = []
    for shape in (PERSIMMON, LLAMA, MPT):
        cases += [
            _attention_case(shape, 1, is_split=True),
            _attention_case(shape, 1, is_split=False),
            _attention_case(shape, 1024, is_split=False),
            _merge_case(shape),
        ]
    return [
        *cases,
        _attention_case(PERSIMMON, 8, is_split=True, dtype=torch.float16),
        _attention_case(PERSIMMON, 1024, is_split=False, dtype=torch.float16),
        _attention_case(PERSIMMON, 1, is_split=True, dtype=torch.float32),
        _attention_case(GROUPED, 8, is_split=True),
        _attention_case(GROUPED, 1024, is_split=False),
    ]


def _attention_case(
    shape: Shape, query_len: int, *, is_split: bool, dtype: torch.dtype = torch.bfloat16
) -> CompileCase:
    name = _TRITON_NAMES[dtype]
    group = shape.num_heads // shape.num_kv_heads
    tile = choose_tile(max_query_len=query_len, group=group, head_dim=shape.head_dim, dtype=dtype)
    integers = (
        "num_heads",
        "num_row_tiles",
        "max_query_len",
        "query_token_stride",
        "query_head_stride",
        "block_stride",
        "slot_stride",
        "head_stride",
        "table_stride",
        "output_token_stride",
    )
    signature = dict.fromkeys(("query", "key_cache", "value_cache"), f"*{name}")
    signature |= {"output": "*fp32" if is_split else f"*{name}", "lse": "*fp32"}
    signature |= dict.fromkeys(("query_start_loc", "seq_lens", "block_tables"), "*i64")
    signature |= {"alibi_slopes": "*fp32", "scale_log2": "fp32"} | dict.fromkeys(integers, "i32")
    what = "prompt" if query_len > SHORT_QUERY else f"{query_len} queries{', split' if is_split else ''}"
    return CompileCase(
        name=f"paged_attention {shape.name} {what} {name}",
        kernel=paged_attention_kernel,
        signature=signature,
        constants={
            "GROUP": group,
            "HEAD_DIM": shape.head_dim,
            "BLOCK_SIZE": PAGE,
            "BLOCK_M": tile.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_D": shape.head_dim,
            "HAS_ALIBI": shape.bias_max is not None,
            "IS_SPLIT": is_split,
            "TWO_LOOPS": query_len > SHORT_QUERY,
        },
        divisible_by_16=(
            *(name for name, kind in signature.items() if kind.startswith("*") and kind != "*i64"),
            *(name for name in integers if name.endswith("_stride") and name != "table_stride"),
        ),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def _merge_case(shape: Shape, *, num_splits: int = 16) -> CompileCase:
    tile = choose_tile(max_query_len=1, group=1, head_dim=shape.head_dim, dtype=torch.bfloat16)
    signature = {"parts": "*fp32", "lse": "*fp32", "output": "*bf16", "query_start_loc": "*i64", "seq_lens": "*i64"}
    return CompileCase(
        name=f"merge_splits {shape.name} {num_splits} splits bf16",
        kernel=merge_splits_kernel,
        signature=signature | {"num_splits": "i32", "output_token_stride": "i32"},
        constants={
            "HEAD_DIM": shape.head_dim,
            "BLOCK_N": tile.block_n,
            "BLOCK_D": shape.head_dim,
            "BLOCK_S": triton.next_power_of_2(num_splits),
        },
        divisible_by_16=("parts", "lse", "output", "output_token_stride"),
        num_warps=1 if num_splits * shape.head_dim <= 1024 else 4,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Sequences of `seq_len` tokens, the last `query_len` new; `key_cache[i]` of a page table in random order."""

    query: Tensor
    key_cache: Tensor
    value_cache: Tensor
    query_start_loc: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    slopes: Tensor | None
    scale: float


def _make_step(
    shape: Shape, num_seqs: int, query_len: int, seq_len: int, page: int, device: torch.device, dtype: torch.dtype
) -> _Step:
    generator = torch.Generator(device).manual_seed(0)
    blocks_each = -(-seq_len // page)
    cache_shape = (num_seqs * blocks_each + 1, page, shape.num_kv_heads, shape.head_dim)

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, device=device, dtype=dtype)

    order = torch.randperm(num_seqs * blocks_each, generator=generator, device=device) + 1
    exponents = torch.arange(1, shape.num_heads + 1, device=device, dtype=torch.float32)
    return _Step(
        query=random(num_seqs * query_len, shape.num_heads, shape.head_dim),
        key_cache=random(*cache_shape),
        value_cache=random(*cache_shape),
        query_start_loc=torch.arange(num_seqs + 1, device=device) * query_len,
        seq_lens=torch.full((num_seqs,), seq_len, device=device),
        block_tables=order.view(num_seqs, blocks_each),
        slopes=None if shape.bias_max is None else 2.0 ** (-shape.bias_max * exponents / shape.num_heads),
        scale=shape.head_dim**-0.5,
    )


def _bench_case(shape: Shape, *, num_seqs: int, query_len: int, seq_len: int) -> BenchCase:
    def make(device: torch.device, dtype: torch.dtype) -> BenchCall:
        step = _make_step(shape, num_seqs, query_len, seq_len, PAGE, device, dtype)
        call = partial(
            paged_attention_reference,
            step.query,
            step.key_cache,
            step.value_cache,
            query_start_loc=step.query_start_loc,
            seq_lens=step.seq_lens,
            block_tables=step.block_tables,
            scale=step.scale,
            alibi_slopes=step.slopes,
        )
        kernel = partial(paged_attention, *call.args, **call.keywords, max_query_len=query_len, max_seq_len=seq_len)
        cached = 2 * num_seqs * seq_len * shape.num_kv_heads * shape.head_dim
        scores = num_seqs * (query_len * seq_len - query_len * (query_len - 1) // 2)
        return BenchCall(
            kernel=kernel,
            reference=call,
            num_bytes=(cached + 2 * step.query.numel()) * dtype.itemsize,
            num_flops=4 * scores * shape.num_heads * shape.head_dim,
        )

    def contiguous(device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
        step = _make_step(shape, num_seqs, query_len, seq_len, PAGE, device, dtype)
        key, value = (
            cache[step.block_tables].flatten(1, 2)[:, :seq_len].transpose(1, 2).contiguous()
            for cache in (step.key_cache, step.value_cache)
        )
        query = step.query.unflatten(0, (num_seqs, query_len)).transpose(1, 2)
        attend = partial(
            F.scaled_dot_product_attention,
            query,
            key,
            value,
            is_causal=query_len == seq_len,
            scale=step.scale,
            enable_gqa=shape.num_heads != shape.num_kv_heads,
        )
        return lambda: attend().transpose(1, 2).flatten(0, 1)

    def flash_attn(device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
        from flash_attn import flash_attn_with_kvcache

        step = _make_step(shape, num_seqs, query_len, seq_len, FLASH_ATTN_PAGE, device, dtype)
        attend = partial(
            flash_attn_with_kvcache,
            step.query.unflatten(0, (num_seqs, query_len)),
            step.key_cache,
            step.value_cache,
            cache_seqlens=step.seq_lens.int(),
            block_table=step.block_tables.int(),
            softmax_scale=step.scale,
            causal=True,
            alibi_slopes=step.slopes,
        )
        return lambda: attend().flatten(0, 1)

    peers: dict[str, Callable[[torch.device, torch.dtype], Callable[[], Tensor]]] = {}
    if shape.bias_max is None and query_len in (1, seq_len):  # the only masks torch has without a tensor for them
        peers["torch SDPA, keys in one piece"] = contiguous
    if find_spec("flash_attn") is not None:
        peers[f"flash-attn, pages of {FLASH_ATTN_PAGE}"] = flash_attn
    return BenchCase(
        name=f"paged_attention {shape.name}, {num_seqs} x {query_len} of {seq_len}",
        make=make,
        # Outputs are averages of seq_len normal numbers; bf16 rounds the largest weights, near 1, to 1/256.
        absolute=2e-2,
        relative=2e-2,
        peers=peers,
    )


def bench_cases() -> list[BenchCase]:
    """Decoding at several batches and contexts, checking of drafts, and prompts."""
    return [
        _bench_case(PERSIMMON, num_seqs=1, query_len=1, seq_len=1024),
        _bench_case(PERSIMMON, num_seqs=1, query_len=1, seq_len=16384),
        _bench_case(PERSIMMON, num_seqs=8, query_len=1, seq_len=4096),
        _bench_case(PERSIMMON, num_seqs=64, query_len=1, seq_len=1024),
        _bench_case(PERSIMMON, num_seqs=4, query_len=8, seq_len=4096),
        _bench_case(PERSIMMON, num_seqs=1, query_len=4096, seq_len=4096),
        _bench_case(PERSIMMON, num_seqs=1, query_len=512, seq_len=8192),
        _bench_case(LLAMA, num_seqs=1, query_len=1, seq_len=4096),
        _bench_case(MPT, num_seqs=1, query_len=1, seq_len=2048),
        _bench_case(MPT, num_seqs=1, query_len=2048, seq_len=2048),
        _bench_case(GROUPED, num_seqs=16, query_len=1, seq_len=4096),
    ]

"""Head norms, rotation and the writing of keys and values in one launch: what is read is read once.

A program, one warp, takes some heads of one token: of queries, keys or values. A head is held in three parts, the two
halves that are rotated with each other and the rest that passes, so that no entry has to change places. Norms are
computed in float32 and rounded as a LayerNorm's result is; the rotation is one sum, rounded once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.qk_rotary import HeadNorms, Rotation

ENTRIES = 1024  # of a program; a quarter of them, Persimmon's halves, still are 8 a thread, a load of 16 bytes
NUM_WARPS = 1


@triton.jit
def turn_heads(
    states,  # of a token, as the next
    output,
    weight,
    bias,
    cos,
    sin,
    head_stride,
    output_stride,
    heads,  # [HEADS]
    is_head,
    eps,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,  # powers of two, at least HALF and HEAD_DIM - 2 * HALF
    REST_BLOCK: tl.constexpr,
    HAS_NORM: tl.constexpr,
):
    dtype: tl.constexpr = output.dtype.element_ty
    half = tl.arange(0, HALF_BLOCK)
    is_half = is_head[:, None] & (half < HALF)[None, :]
    source = states + heads[:, None] * head_stride
    target = output + heads[:, None] * output_stride
    first = tl.load(source + half[None, :], mask=is_half, other=0.0).to(tl.float32)
    second = tl.load(source + HALF + half[None, :], mask=is_half, other=0.0).to(tl.float32)
    HAS_REST: tl.constexpr = HEAD_DIM > 2 * HALF
    if HAS_REST:
        rest_place = 2 * HALF + tl.arange(0, REST_BLOCK)
        is_rest = is_head[:, None] & (rest_place < HEAD_DIM)[None, :]
        rest = tl.load(source + rest_place[None, :], mask=is_rest, other=0.0).to(tl.float32)
    if HAS_NORM:
        total = tl.sum(first, axis=1) + tl.sum(second, axis=1)
        if HAS_REST:
            total += tl.sum(rest, axis=1)
        mean = (total / HEAD_DIM)[:, None]
        first = tl.where(is_half, first - mean, 0.0)
        second = tl.where(is_half, second - mean, 0.0)
        square = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
        if HAS_REST:
            rest = tl.where(is_rest, rest - mean, 0.0)
            square += tl.sum(rest * rest, axis=1)
        scale = tl.rsqrt(square / HEAD_DIM + eps)[:, None]
        in_half = half < HALF
        factor = tl.load(weight + half, mask=in_half, other=0.0).to(tl.float32)
        shift = tl.load(bias + half, mask=in_half, other=0.0).to(tl.float32)
        first = (first * scale * factor[None, :] + shift[None, :]).to(dtype).to(tl.float32)
        factor = tl.load(weight + HALF + half, mask=in_half, other=0.0).to(tl.float32)
        shift = tl.load(bias + HALF + half, mask=in_half, other=0.0).to(tl.float32)
        second = (second * scale * factor[None, :] + shift[None, :]).to(dtype).to(tl.float32)
        if HAS_REST:
            factor = tl.load(weight + rest_place, mask=rest_place < HEAD_DIM, other=0.0).to(tl.float32)
            shift = tl.load(bias + rest_place, mask=rest_place < HEAD_DIM, other=0.0).to(tl.float32)
            rest = rest * scale * factor[None, :] + shift[None, :]
    c = tl.load(cos + half, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
    s = tl.load(sin + half, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
    tl.store(target + half[None, :], (first * c - second * s).to(dtype), mask=is_half)
    tl.store(target + HALF + half[None, :], (second * c + first * s).to(dtype), mask=is_half)
    if HAS_REST:
        tl.store(target + rest_place[None, :], rest.to(dtype), mask=is_rest)


@triton.jit
def copy_heads(
    states,
    output,
    head_stride,
    output_stride,
    heads,
    is_head,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    dims = tl.arange(0, BLOCK_D)
    mask = is_head[:, None] & (dims < HEAD_DIM)[None, :]
    values = tl.load(states + heads[:, None] * head_stride + dims[None, :], mask=mask)
    tl.store(output + heads[:, None] * output_stride + dims[None, :], values, mask=mask)


@triton.jit(do_not_specialize_on_alignment=["slot_mapping"])
def qk_rotary_kernel(
    query,
    key,
    value,
    turned,  # [num_tokens, num_heads, head_dim]
    key_cache,
    value_cache,
    slot_mapping,
    cos,
    sin,
    query_weight,
    query_bias,
    key_weight,
    key_bias,
    query_token_stride,
    query_head_stride,
    key_token_stride,
    key_head_stride,
    value_token_stride,
    value_head_stride,
    cos_stride,
    slot_stride,
    cache_head_stride,
    num_heads,
    num_kv_heads,
    eps,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HALF: tl.constexpr,  # 0: no rotation and no norm, keys and values are written alone
    HALF_BLOCK: tl.constexpr,
    REST_BLOCK: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HEADS: tl.constexpr,
):
    """Grid (num_tokens, blocks of key heads + as many of value heads + blocks of query heads)."""
    token = tl.program_id(0).to(tl.int64)
    kv_blocks = tl.cdiv(num_kv_heads, HEADS)
    part = tl.program_id(1)
    if part < 2 * kv_blocks:
        heads = (part % kv_blocks) * HEADS + tl.arange(0, HEADS)
        is_head = heads < num_kv_heads
        place = tl.load(slot_mapping + token).to(tl.int64) * slot_stride
        if part >= kv_blocks:
            copy_heads(
                value + token * value_token_stride, value_cache + place, value_head_stride, cache_head_stride,
                heads, is_head, HEAD_DIM, BLOCK_D,
            )  # fmt: skip
        elif HALF > 0:
            turn_heads(
                key + token * key_token_stride, key_cache + place, key_weight, key_bias,
                cos + token * cos_stride, sin + token * cos_stride, key_head_stride, cache_head_stride, heads, is_head,
                eps, HEAD_DIM, HALF, HALF_BLOCK, REST_BLOCK, HAS_NORM,
            )  # fmt: skip
        else:
            copy_heads(
                key + token * key_token_stride, key_cache + place, key_head_stride, cache_head_stride,
                heads, is_head, HEAD_DIM, BLOCK_D,
            )  # fmt: skip
    elif HALF > 0:
        heads = (part - 2 * kv_blocks) * HEADS + tl.arange(0, HEADS)
        turn_heads(
            query + token * query_token_stride, turned + token * num_heads * HEAD_DIM, query_weight, query_bias,
            cos + token * cos_stride, sin + token * cos_stride, query_head_stride, HEAD_DIM, heads, heads < num_heads,
            eps, HEAD_DIM, HALF, HALF_BLOCK, REST_BLOCK, HAS_NORM,
        )  # fmt: skip


def qk_rotary(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    slot_mapping: Tensor,
    rotation: Rotation | None = None,
    norms: HeadNorms | None = None,
) -> Tensor:
    """As :func:`kernels.qk_rotary.qk_rotary_reference`; tokens and heads may be strided, the entries of a head not.

    Raises:
        ValueError: there are norms without a rotation, strides are not as above, or the caches' blocks do not adjoin.
    """
    num_tokens, num_heads, head_dim = query.shape
    num_kv_heads = key.shape[1]
    for name, tensor in (("query", query), ("key", key), ("value", value), ("key_cache", key_cache)):
        if tensor.stride(-1) != 1:
            raise ValueError(f"{name} has entries {tensor.stride(-1)} apart in a head: they must be side by side")
    slot_stride = key_cache.stride(1)
    if key_cache.stride() != value_cache.stride() or key_cache.stride(0) != key_cache.shape[1] * slot_stride:
        raise ValueError("both caches must have the same strides, and their blocks adjoin in memory")
    if rotation is None:
        if norms is not None:
            raise ValueError("head norms are given without a rotation: they are computed together only")
        turned, cos, sin, half = query, query, query, 0
    else:
        cos, sin = rotation
        half = cos.shape[-1]
        if cos.stride() != sin.stride() or cos.stride(-1) != 1:
            raise ValueError("cosines and sines must have the same strides, and a token's be side by side")
        turned = torch.empty((num_tokens, num_heads, head_dim), dtype=query.dtype, device=query.device)
    if num_tokens == 0:
        return turned
    heads = heads_of_a_program(max(num_heads, num_kv_heads), head_dim)
    query_blocks = triton.cdiv(num_heads, heads) if half else 0
    no_norm = (query, query, query, query, 0.0)
    query_weight, query_bias, key_weight, key_bias, eps = no_norm if norms is None else norms
    qk_rotary_kernel[(num_tokens, 2 * triton.cdiv(num_kv_heads, heads) + query_blocks)](
        query, key, value, turned, key_cache, value_cache, slot_mapping, cos, sin,
        query_weight, query_bias, key_weight, key_bias,
        query.stride(0), query.stride(1), key.stride(0), key.stride(1), value.stride(0), value.stride(1),
        cos.stride(0), slot_stride, key_cache.stride(2), num_heads, num_kv_heads, eps,
        **shape_constants(head_dim, half), HAS_NORM=norms is not None, HEADS=heads, num_warps=NUM_WARPS,
    )  # fmt: skip
    return turned


def heads_of_a_program(num_heads: int, head_dim: int) -> int:
    """A power of two, so many that a program has the entries wanted, but not more than there are heads."""
    return min(max(ENTRIES // triton.next_power_of_2(head_dim), 1), triton.next_power_of_2(num_heads))


def shape_constants(head_dim: int, half: int) -> dict[str, int]:
    """What is compiled in of a head's shape."""
    return {
        "HEAD_DIM": head_dim,
        "BLOCK_D": triton.next_power_of_2(head_dim),
        "HALF": half,
        "HALF_BLOCK": triton.next_power_of_2(max(half, 1)),
        "REST_BLOCK": triton.next_power_of_2(max(head_dim - 2 * half, 1)),
    }

"""Attention straight from the pages of the KV cache, with what comes before it, in one call.

Norm and rotation of new query and key heads, new keys and values into their slots, and attention of each new token over
its sequence: torch takes twenty operations for that, and has to gather the pages first, which is three passes over keys
and values in place of one. Each new token goes by itself, so there are no masks and nothing is padded; for many new
tokens of one sequence products of matrices are faster, and torch has them.

Every thread takes an equal share of all the keys that are read, cut between key heads; a token's result is the same
whatever else is in the step and however many threads there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu import code, threads
from kernels.paged_attention_cpu import TokensAlone, Workspace
from kernels.qk_rotary import HeadNorms, Rotation

CACHE_LINE = 16  # float32 numbers


def compile_for(head_dim: int) -> None:
    """Have the kernel for heads of this size ready.

    Raises:
        RuntimeError: it cannot be compiled.
    """
    code.address("paged_attention_kernel", head_dim)


def paged_attention_(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    output: Tensor,
    alone: TokensAlone,
    query_tokens: Tensor,
    workspace: Workspace,
    scale: float,
    slot_mapping: Tensor,
    rotation: Rotation | None = None,
    norms: HeadNorms | None = None,
    alibi_slopes: Tensor | None = None,
) -> None:
    """`qk_rotary_reference`, with queries and keys changed in place, and `paged_attention_reference` for some tokens.

    All tensors of numbers are float32.

    Args:
        query: [num_tokens, num_heads, head_dim]; key, value: [num_tokens, num_kv_heads, head_dim]; the numbers of a
            head follow one another in memory.
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        output: [num_rows, num_heads, head_dim] in one piece of memory, of which the rows of `alone` are written.
        alone: the tokens that attend.
        query_tokens: [len(alone.rows)] int64, where in `query` they are.
        workspace: for scores.
        scale: factor on the dot products.
        slot_mapping: [num_tokens] int64, where new keys and values are written.
        rotation, norms: `None` without.
        alibi_slopes: [num_heads].
    """
    num_heads, head_dim = query.shape[1:]
    scores_size = -(-num_heads * alone.longest // CACHE_LINE) * CACHE_LINE  # no two threads write to one line
    scores = workspace.take(scores_size * torch.get_num_threads(), torch.float32)
    cos, sin, half = (0, 0, 0) if rotation is None else (*map(Tensor.data_ptr, rotation), rotation.cos.shape[1])
    threads.run(
        code.address("paged_attention_kernel", head_dim),
        [
            query.data_ptr(),
            query.stride(0),
            query.stride(1),
            key.data_ptr(),
            key.stride(0),
            key.stride(1),
            value.data_ptr(),
            value.stride(0),
            value.stride(1),
            key_cache.data_ptr(),
            value_cache.data_ptr(),
            key_cache.shape[1],
            query.shape[0],
            num_heads,
            key_cache.shape[2],
            slot_mapping.data_ptr(),
            cos,
            sin,
            half,
            *((0, 0, 0, 0) if norms is None else map(Tensor.data_ptr, norms[:4])),
            0 if alibi_slopes is None else alibi_slopes.data_ptr(),
            alone.rows.shape[0],
            alone.total_length,
            alone.longest,
            query_tokens.data_ptr(),
            alone.rows.data_ptr(),
            alone.lengths.data_ptr(),
            alone.sequences.data_ptr(),
            alone.block_tables.data_ptr(),
            alone.block_tables.shape[1],
            output.data_ptr(),
            scores.data_ptr(),
            scores_size,
        ],
        [scale, 0.0 if norms is None else norms.eps],
    )

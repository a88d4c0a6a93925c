"""Cached causal attention, as the families call it, on whatever was chosen to run it.

`attend` is the one entry point for keys and values that are in the cache already; `cached_attention` writes them first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kernels.paged_attention import paged_attention_reference, write_kv_reference
from kernels.paged_attention_cpu import paged_attention_cpu
from kernels.qk_rotary import HeadNorms, Rotation
from kernels.rotary import apply_rotary_
from kernels.varlen_attention import flash_attn_varlen, torch_varlen
from model.layers.attention_backends import AttentionBackend
from model.layers.attention_plan import Run
from model.layers.forward_batch import ForwardBatch, LastRows
from model.layers.kv_cache import LayerCache


def why_not_capturable(backend: AttentionBackend | None) -> str | None:
    """Why the attention that runs cannot be recorded in a CUDA graph; `None` if it can.

    Args:
        backend: what was chosen; `None`: the reference.
    """
    if backend is not None and backend.can_capture_decode:
        return None
    return "the attention that runs asks the host how long each sequence is"


def cached_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    cache: LayerCache,
    batch: ForwardBatch,
    scale: float,
    rotation: Rotation | None = None,
    head_norms: tuple[nn.LayerNorm, nn.LayerNorm] | None = None,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Write the new keys and values, then attend over all of each sequence.

    Args:
        query: [num_tokens, num_heads, head_dim]; key, value: [num_tokens, num_kv_heads, head_dim]. Queries and keys may
            be overwritten.
        rotation: that queries and keys are turned by first; `None` without.
        head_norms: of the queries' and of the keys' heads, before that; `None` without.
        alibi_slopes: [num_heads] float32, or `None` without ALiBi.

    Returns:
        [num_tokens, num_heads, head_dim], or the rows of `batch.last` alone.
    """
    query, key = prepare_heads(query, key, rotation=rotation, head_norms=head_norms)
    write_kv_reference(key, value, cache.key, cache.value, slot_mapping=batch.slot_mapping)
    queries = batch if batch.last is None else batch.last
    query, key, value = (batch.going_on(states) for states in (query, key, value))
    if queries.cpu_plan is not None:
        return paged_attention_cpu(
            query,
            key,
            value,
            cache.key,
            cache.value,
            plan=queries.cpu_plan,
            workspace=cache.workspace,
            scale=scale,
            alibi_slopes=alibi_slopes,
        )
    return attend(query, cache=cache, batch=batch, scale=scale, alibi_slopes=alibi_slopes)


def prepare_heads(
    query: Tensor,
    key: Tensor,
    *,
    rotation: Rotation | None,
    head_norms: tuple[nn.LayerNorm, nn.LayerNorm] | None,
) -> tuple[Tensor, Tensor]:
    """Queries and keys, [num_tokens, num(_kv)_heads, head_dim], normalised and rotated; they may be overwritten."""
    if head_norms is not None:
        query, key = head_norms[0](query), head_norms[1](key)
    if rotation is not None:
        apply_rotary_(query, *rotation)
        apply_rotary_(key, *rotation)
    return query, key


def head_norm_weights(head_norms: tuple[nn.LayerNorm, nn.LayerNorm] | None) -> HeadNorms | None:
    """As kernels take them."""
    if head_norms is None:
        return None
    of_queries, of_keys = head_norms
    return HeadNorms(of_queries.weight, of_queries.bias, of_keys.weight, of_keys.bias, of_queries.eps)


def attend(
    query: Tensor,
    *,
    cache: LayerCache,
    batch: ForwardBatch,
    scale: float,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Attention of a step's queries over all keys of their sequences, which are in the cache already.

    Each run of the step's `attention_plan` goes to its back-end; without a plan, all go to the reference.

    Args:
        query: [num_rows, num_heads, head_dim]: of the batch's new tokens, or, where it has `last`, of those rows
            (`batch.going_on(...)`).
        alibi_slopes: [num_heads] float32, or `None` without ALiBi.

    Returns:
        As `query`, in one piece of memory; 0 for tokens after the last sequence's.
    """
    queries = batch if batch.last is None else batch.last
    if queries.attention_plan is None:
        return paged_attention_reference(
            query,
            cache.key,
            cache.value,
            query_start_loc=queries.query_start_loc,
            seq_lens=batch.seq_lens,
            block_tables=batch.block_tables,
            scale=scale,
            alibi_slopes=alibi_slopes,
        )
    output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    output[queries.attention_plan.runs[-1].rows.stop :] = 0
    for run in queries.attention_plan.runs:
        _BACKENDS[run.backend](query, output, run, queries, batch, cache, scale, alibi_slopes)
    return output


def _by_pages(
    query: Tensor,
    output: Tensor,
    run: Run,
    queries: ForwardBatch | LastRows,
    batch: ForwardBatch,
    cache: LayerCache,
    scale: float,
    alibi_slopes: Tensor | None,
) -> None:
    chosen = run.sequences
    given: dict[str, Any] = {
        "query_start_loc": queries.query_start_loc[chosen.start : chosen.stop + 1],
        "seq_lens": batch.seq_lens[chosen],
        "block_tables": batch.block_tables[chosen],
        "alibi_slopes": alibi_slopes,
    }
    if run.backend == "sdpa":
        paged_attention_reference(query, cache.key, cache.value, scale=scale, out=output, **given)
        return
    from kernels.gpu.paged_attention import paged_attention  # Triton is not installed everywhere

    paged_attention(
        query,
        cache.key,
        cache.value,
        max_query_len=run.max_query_len,
        max_seq_len=run.max_seq_len,
        fixed_tiles=run.backend == "triton-fixed",
        scale=scale,
        out=output,
        **given,
    )


def _packed(
    query: Tensor,
    output: Tensor,
    run: Run,
    queries: ForwardBatch | LastRows,
    batch: ForwardBatch,
    cache: LayerCache,
    scale: float,
    alibi_slopes: Tensor | None,
) -> None:
    if run.packed is None:
        raise ValueError(f"a run by {run.backend} has no packed sequences: make it with plan_attention")
    if run.backend == "flash-attn":
        attended = flash_attn_varlen(
            query[run.rows], cache.key, cache.value, packed=run.packed, scale=scale, alibi_slopes=alibi_slopes
        )
    elif alibi_slopes is not None:
        raise ValueError("torch's packed attention has no ALiBi: choose the back-end with choose_attention")
    else:
        attended = torch_varlen(query[run.rows], cache.key, cache.value, packed=run.packed, scale=scale)
    output[run.rows] = attended


_BACKENDS: dict[str, Callable[..., None]] = {
    "triton-fixed": _by_pages,
    "flash-attn": _packed,
    "torch-varlen": _packed,
    "triton": _by_pages,
    "sdpa": _by_pages,
}

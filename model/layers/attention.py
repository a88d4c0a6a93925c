"""Cached causal attention, as the families call it."""

from __future__ import annotations

from torch import Tensor

from kernels.paged_attention import paged_attention_reference, write_kv_reference
from kernels.paged_attention_cpu import paged_attention_cpu
from model.layers.forward_batch import ForwardBatch
from model.layers.kv_cache import LayerCache

ATTENTION_BACKEND = "torch scaled_dot_product_attention over gathered KV pages"


def why_not_capturable() -> str | None:
    """Why the attention that runs cannot be recorded in a CUDA graph; `None` if it can."""
    return "the attention that runs asks the host how long each sequence is"


def cached_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    cache: LayerCache,
    batch: ForwardBatch,
    scale: float,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Write the new keys and values, then attend over all of each sequence.

    Args:
        query: [num_tokens, num_heads, head_dim]; key, value: [num_tokens, num_kv_heads, head_dim].
        alibi_slopes: [num_heads] float32, or `None` without ALiBi.

    Returns:
        [num_tokens, num_heads, head_dim], or the rows of `batch.last` alone.
    """
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

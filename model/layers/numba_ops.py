"""The table of a CPU's compiled kernels, for models in float32. Importing it imports llvmlite."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from kernels.cpu.linear import compile_for_this_processor, linear, product_
from kernels.cpu.paged_attention import compile_for, paged_attention_
from kernels.paged_attention_cpu import attend_groups_, empty_output
from kernels.qk_rotary import Rotation
from kernels.squared_relu import squared_relu_linear_
from kernels.token_logprobs import token_logprobs_reference
from model.layers.attention import cached_attention, head_norm_weights
from model.layers.forward_batch import ForwardBatch
from model.layers.kv_cache import LayerCache
from model.layers.ops import REFERENCE


def _attention(
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
    queries = batch if batch.last is None else batch.last
    plan = queries.cpu_plan
    if plan is None or plan.alone is None:
        return cached_attention(
            query,
            key,
            value,
            cache=cache,
            batch=batch,
            scale=scale,
            rotation=rotation,
            head_norms=head_norms,
            alibi_slopes=alibi_slopes,
        )
    rows = plan.alone.rows
    num_rows = len(query if batch.last is None else batch.last.rows)
    output = empty_output(num_rows, query, plan)
    paged_attention_(
        query,
        key,
        value,
        cache.key,
        cache.value,
        output=output,
        alone=plan.alone,
        query_tokens=rows if batch.last is None else batch.last.rows[rows],
        workspace=cache.workspace,
        scale=scale,
        slot_mapping=batch.slot_mapping,
        rotation=rotation,
        norms=head_norm_weights(head_norms),
        alibi_slopes=alibi_slopes,
    )
    if plan.longer:
        query, key, value = (batch.going_on(states) for states in (query, key, value))
        attend_groups_(
            query,
            key,
            value,
            cache.key,
            cache.value,
            groups=plan.longer,
            output=output,
            workspace=cache.workspace,
            scale=scale,
            alibi_slopes=alibi_slopes,
        )
    return output


def _squared_relu_linear(states: Tensor, matrix: nn.Linear, batch: ForwardBatch) -> tuple[Tensor, Tensor | None]:
    return squared_relu_linear_(states, matrix.weight, matrix.bias, linear=linear), None


def _compile(head_dim: int) -> None:
    compile_for(head_dim)
    compile_for_this_processor()


NUMBA = replace(
    REFERENCE,
    name="numba",
    linear=linear,
    attention=_attention,
    squared_relu_linear=_squared_relu_linear,
    token_logprobs=partial(token_logprobs_reference, product_=product_),
    compile=_compile,
    pads_steps=False,
)

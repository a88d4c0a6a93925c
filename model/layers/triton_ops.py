"""The tables of our kernels. Importing it imports Triton.

`TRITON` is what is fastest. `DETERMINISTIC` gives a token the same bits whatever else is in the batch and however its
sequence was cut into steps: every product has the same tiles and splits for 1 token as for 2,048, and no row of a
matrix is left out for what other tokens say of it. It costs the tensor cores' large tiles, which prompts need, and the
sparse second matrix.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kernels.gpu.activations import bias_gelu, bias_relu_squared, swiglu
from kernels.gpu.gemv import gemv
from kernels.gpu.qk_rotary import qk_rotary
from kernels.gpu.residual_norm import residual_layer_norm, residual_rms_norm
from kernels.gpu.sampling import draw
from kernels.gpu.sparse_down import sparse_down_projection
from kernels.gpu.token_logprobs import token_logprobs
from kernels.qk_rotary import Rotation
from kernels.sparse_down import MOST_TOKENS
from model.layers.attention import attend, head_norm_weights
from model.layers.forward_batch import ForwardBatch
from model.layers.kv_cache import LayerCache
from model.layers.norms import RMSNorm
from model.layers.ops import Ops

GEMV_MOST_TOKENS = 0
"""Most tokens for which the matrices go to our kernel instead of cuBLAS: none, until `make bench-kernels` has shown on
a GPU that it is faster for some."""


def _linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if 0 < len(states) <= GEMV_MOST_TOKENS:
        return gemv(states, weight, bias)
    return F.linear(states, weight, bias)


def _layer_norm(
    residual: Tensor, delta: Tensor | None, delta_bias: Tensor | None, norm: nn.LayerNorm
) -> tuple[Tensor, Tensor]:
    return residual_layer_norm(residual, delta, delta_bias, norm.weight, norm.bias, eps=norm.eps)


def _rms_norm(residual: Tensor, delta: Tensor | None, norm: RMSNorm) -> tuple[Tensor, Tensor]:
    return residual_rms_norm(residual, delta, None, norm.weight, eps=norm.eps)


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
    query = qk_rotary(
        query,
        key,
        value,
        cache.key,
        cache.value,
        slot_mapping=batch.slot_mapping,
        rotation=rotation,
        norms=head_norm_weights(head_norms),
    )
    return attend(batch.going_on(query), cache=cache, batch=batch, scale=scale, alibi_slopes=alibi_slopes)


def _squared_relu_linear(states: Tensor, matrix: nn.Linear, batch: ForwardBatch) -> tuple[Tensor, Tensor | None]:
    if len(states) <= MOST_TOKENS:
        partials = sparse_down_projection(
            states, matrix.weight.T, live_counter=batch.live_counter, is_token=batch.is_token
        )
        return partials, matrix.bias
    return _dense_squared_relu_linear(states, matrix, batch)


def _dense_squared_relu_linear(states: Tensor, matrix: nn.Linear, batch: ForwardBatch) -> tuple[Tensor, Tensor | None]:
    squares, scale = bias_relu_squared(states, None)
    if scale is None:
        return F.linear(squares, matrix.weight, matrix.bias), None
    return F.linear(squares, matrix.weight) * scale * scale, matrix.bias


def _fixed_squared_relu_linear(states: Tensor, matrix: nn.Linear, batch: ForwardBatch) -> tuple[Tensor, Tensor | None]:
    squares, scale = bias_relu_squared(states, None)
    if scale is None:
        return gemv(squares, matrix.weight, matrix.bias), None
    return gemv(squares, matrix.weight, None) * scale * scale, matrix.bias


def _gelu(states: Tensor) -> Tensor:
    return bias_gelu(states, None)


TRITON = Ops(
    name="triton",
    linear=_linear,
    layer_norm=_layer_norm,
    rms_norm=_rms_norm,
    attention=_attention,
    squared_relu_linear=_squared_relu_linear,
    swiglu=swiglu,
    gelu=_gelu,
    token_logprobs=token_logprobs,
    draw=draw,
    compile=None,
    pads_steps=False,
    reads_columns=True,
)

DENSE = replace(TRITON, name="triton, dense", squared_relu_linear=_dense_squared_relu_linear)
"""What `TRITON` is measured against: all rows of the second matrix are read; they lie in memory as skipping wants."""

DETERMINISTIC = replace(
    TRITON,
    name="deterministic",
    linear=gemv,
    squared_relu_linear=_fixed_squared_relu_linear,
    token_logprobs=partial(token_logprobs, rows_of_a_program=16),
    reads_columns=False,
)

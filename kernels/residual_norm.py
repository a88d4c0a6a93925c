"""Add a layer's output to the residual stream and normalise the sum for the next layer: the definition, in torch.

The output may come as it leaves the matrix before it: as split-K partial sums in float32 and without its bias. Then
rounding it to the model's dtype, adding the bias and adding the residual are one sum, rounded once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def residual_layer_norm_reference(
    residual: Tensor,
    delta: Tensor | None,
    delta_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """residual + delta + delta_bias, and its LayerNorm (Ba et al. 2016).

    The sum is made in float32 and rounded once to the residual's dtype; the norm is computed from the rounded sum, in
    float32, and rounded once.

    Args:
        residual: [num_tokens, hidden_size].
        delta: [num_tokens, hidden_size] in the residual's dtype, or partial sums [num_partials, num_tokens,
            hidden_size] in float32, or `None`: nothing is added.
        delta_bias: [hidden_size], or `None`; only with a delta.
        weight, bias: [hidden_size], of the norm; MPT has no bias.
        eps: added to the variance.

    Returns:
        The sum (the residual itself without a delta) and its norm: [num_tokens, hidden_size], the residual's dtype.

    Raises:
        ValueError: there is a delta_bias without a delta.
    """
    summed = _add(residual, delta, delta_bias)
    return summed, F.layer_norm(summed, (summed.shape[-1],), weight, bias, eps)


def residual_rms_norm_reference(
    residual: Tensor, delta: Tensor | None, delta_bias: Tensor | None, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """As :func:`residual_layer_norm_reference` with RMSNorm (Zhang and Sennrich 2019) as Llama rounds it: the quotient
    is rounded to the residual's dtype before it is multiplied by the weight."""
    summed = _add(residual, delta, delta_bias)
    states = summed.float()
    states = states * torch.rsqrt(states.square().mean(dim=-1, keepdim=True) + eps)
    return summed, weight * states.to(summed.dtype)


def _add(residual: Tensor, delta: Tensor | None, delta_bias: Tensor | None) -> Tensor:
    if delta is None:
        if delta_bias is not None:
            raise ValueError("delta_bias is given without a delta: it is added to one only")
        return residual
    total = delta.float() if delta.dim() == residual.dim() else delta.float().sum(dim=0)
    if delta_bias is not None:
        total = total + delta_bias.float()
    return (residual.float() + total).to(residual.dtype)

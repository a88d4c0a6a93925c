"""Biases that give a stated share of zeros after squared ReLU, on random weights.

A neuron's input is its row of the first matrix times a normed state, plus its bias. With random rows that are
independent of the state, the products over a layer's neurons are normal with a standard deviation of the row's length
times the state's root mean square, which a LayerNorm of weight 1 and bias 0 makes 1. A bias of minus that deviation
times the normal distribution's quantile leaves the stated share at or below 0, whatever the token; which neurons those
are differs from token to token.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from model.families.persimmon import PersimmonMLP
from model.families.registry import CausalLM
from model.probes.mlp import mlps


@torch.no_grad()
def set_zeros(model: CausalLM, share: float) -> None:
    """Overwrite the first MLP biases of a Persimmon from `random_model`, in place.

    Args:
        share: of zeros, at least 0 and below 1. 0 gives biases so large that nothing is 0.
    """
    quantile = -8.0 if share == 0 else NormalDist().inv_cdf(share)
    for mlp in squared_relu_mlps(model):
        linear = mlp.dense_h_to_4h
        deviations = torch.linalg.vector_norm(linear.weight, dim=1, dtype=torch.float32)
        linear.bias.copy_(-quantile * deviations)


def first_biases(model: CausalLM) -> list[Tensor]:
    """Copies of what :func:`set_zeros` overwrites, one a layer."""
    return [mlp.dense_h_to_4h.bias.clone() for mlp in squared_relu_mlps(model)]


@torch.no_grad()
def restore_first_biases(model: CausalLM, biases: list[Tensor]) -> None:
    """Put them back."""
    for mlp, bias in zip(squared_relu_mlps(model), biases, strict=True):
        mlp.dense_h_to_4h.bias.copy_(bias)


def squared_relu_mlps(model: CausalLM) -> list[PersimmonMLP]:
    """Those of a Persimmon, one a layer; none of the other families."""
    return [mlp for mlp in mlps(model) if isinstance(mlp, PersimmonMLP)]

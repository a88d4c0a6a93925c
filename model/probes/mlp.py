"""The three families' MLPs as one: what stands before the second matrix, and that matrix."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

from model.families.llama import LlamaMLP
from model.families.mpt import MptMLP
from model.families.persimmon import PersimmonMLP
from model.families.registry import CausalLM

MLP: TypeAlias = PersimmonMLP | MptMLP | LlamaMLP


def mlps(model: CausalLM) -> list[MLP]:
    """One a layer, from the first layer on."""
    return [module for module in model.modules() if isinstance(module, MLP)]


def activated(mlp: MLP, hidden_states: Tensor) -> Tensor:
    """What the second matrix is multiplied with: relu(x)^2 (Persimmon), GELU (MPT), or silu(gate) * up (Llama).

    It is computed here from what the MLP is given, with the MLP's own first matrix and activation, because a fused MLP
    never holds it as a tensor.

    Args:
        hidden_states: [num_tokens, hidden_size], the MLP's input.

    Returns:
        [num_tokens, intermediate_size], the model's dtype. In float16 squares below about 3e-8 are 0 too.
    """
    if isinstance(mlp, PersimmonMLP):
        return mlp.activation(mlp.dense_h_to_4h(hidden_states))
    if isinstance(mlp, MptMLP):
        return mlp.activation(mlp.up_proj(hidden_states))
    gated: Tensor = mlp.activation(mlp.gate_proj(hidden_states)) * mlp.up_proj(hidden_states)
    return gated


def second_matrix(mlp: MLP) -> Tensor:
    """[hidden_size, intermediate_size]; neuron i's weights, which its activation of 0 makes useless, are column i."""
    linear: nn.Linear = mlp.dense_4h_to_h if isinstance(mlp, PersimmonMLP) else mlp.down_proj
    return linear.weight

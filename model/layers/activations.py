"""Activation functions by the names Hugging Face configs use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint.errors import CheckpointError


def relu_squared(states: Tensor) -> Tensor:
    """relu(x)^2 (So et al. 2021, Primer), the activation of Persimmon."""
    return F.relu(states).square()


def quick_gelu(states: Tensor) -> Tensor:
    """x * sigmoid(1.702 x) (Hendrycks and Gimpel 2016, the sigmoid approximation)."""
    return states * torch.sigmoid(1.702 * states)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu2": relu_squared,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function a config names.

    Raises:
        CheckpointError: the name is not known.
    """
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json has hidden_act={name!r}, which is not supported: use one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]

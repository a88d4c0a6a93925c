"""Projections of the same states as one product, and the memory of a model in which they lie side by side.

Llama's checkpoints have queries, keys and values, and gate and up, as matrices of their own; multiplied one by one they
are three launches and two, each of which has to fill a GPU again. Here they stay parameters of their own, with the
checkpoint's names, but their memory is one piece, which is multiplied as one matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.layers.linear import Linear


class JoinedProjections(nn.Module):
    """Projections of the same states: [num_tokens, in_features] in, [num_tokens, out_features of each] out.

    The modules stay their owner's: they are no children of this one. Without memory that :func:`give_memory` gave, each
    is a product of its own.
    """

    def __init__(self, *projections: Linear) -> None:
        super().__init__()
        self._projections = projections  # a tuple's modules are not registered
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    def give_memory(self, device: torch.device) -> None:
        """One piece of memory for all weights, and one for all biases, of which each projection's is a part."""
        self._weight = _joined([each.weight for each in self._projections], device)
        for each, part in zip(self._projections, self._parts(self._weight), strict=True):
            each.weight = nn.Parameter(part, requires_grad=False)
        if all(each.bias is not None for each in self._projections):
            self._bias = _joined([each.bias for each in self._projections], device)
            for each, part in zip(self._projections, self._parts(self._bias), strict=True):
                each.bias = nn.Parameter(part, requires_grad=False)

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:
        if self._weight is None:
            return tuple(each(states) for each in self._projections)
        product = self._projections[0].product(states, self._weight, self._bias)
        return self._parts(product, dim=-1)

    def _parts(self, joined: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        return torch.split(joined, [each.out_features for each in self._projections], dim=dim)


def _joined(parts: list[Tensor], device: torch.device) -> Tensor:
    rows = sum(len(part) for part in parts)
    return torch.empty((rows, *parts[0].shape[1:]), dtype=parts[0].dtype, device=device)


def give_memory(model: nn.Module, device: torch.device) -> None:
    """Give memory on `device`, uninitialised, to each parameter that has none (which is on the device `meta`). Modules
    that share a parameter go on sharing it; no parameter has a gradient."""
    given: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, JoinedProjections):
            module.give_memory(device)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                if parameter not in given:
                    # Not empty_like, for which torch imports 35 MB of what compiles programs.
                    empty = torch.empty_strided(
                        parameter.shape, parameter.stride(), dtype=parameter.dtype, device=device
                    )
                    given[parameter] = nn.Parameter(empty, requires_grad=False)
                setattr(module, name, given[parameter])

"""What one decoding step reads from memory, and how much less if the second MLP matrix is read by its live rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from model.families.registry import CausalLM
from model.probes.mlp import mlps, second_matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamedParameters:
    """Parameters read in a step, all of the same size in bytes.

    Attributes:
        total: all but the tables of which a step reads single rows: the input embedding, if it is not the head too.
        second_matrices: of each layer's second MLP matrix.
    """

    total: int
    second_matrices: tuple[int, ...]

    def traffic_ratio(self, live_shares: Sequence[float]) -> float:
        """Bytes of a step that reads everything over bytes of one that reads only live rows of the second matrices: an
        upper bound of the gain in time, because keys, values and computation are not in it.

        Args:
            live_shares: of each layer, 0 to 1; with a NaN the ratio is NaN.
        """
        skipped = sum(count * (1 - share) for count, share in zip(self.second_matrices, live_shares, strict=True))
        return self.total / (self.total - skipped)


def streamed_parameters(model: CausalLM) -> StreamedParameters:
    """Count those of a model."""
    tables = [
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.weight is not model.lm_head.weight
    ]
    return StreamedParameters(
        total=sum(parameter.numel() for parameter in model.parameters()) - sum(tables),
        second_matrices=tuple(second_matrix(mlp).numel() for mlp in mlps(model)),
    )

"""Rotary position embeddings: from a config's keys to the cosines and sines of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from model.checkpoint.errors import CheckpointError

RopeType = Literal["default", "linear", "dynamic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryConfig:
    """Attributes:
    theta: base of the frequencies. dim: rotated dimensions of each head, even.
    rope_type: `default`; `linear` (positions divided by `factor`, Chen et al. 2023); `dynamic` (NTK-aware base that
        grows with the sequence beyond `max_position_embeddings`, as Hugging Face defines it).
    """

    theta: float
    dim: int
    rope_type: RopeType = "default"
    factor: float = 1.0
    max_position_embeddings: int

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, head_dim: int, default_partial_rotary_factor: float
    ) -> RotaryConfig:
        """Read the old keys (`rope_theta`, `rope_scaling`, `partial_rotary_factor`) or the new (`rope_parameters`).

        Raises:
            CheckpointError: a key is missing or holds a value that is not supported.
        """
        new = config.get("rope_parameters") or {}
        scaling = {**(config.get("rope_scaling") or {}), **new}
        theta = scaling.get("rope_theta", config.get("rope_theta"))
        if theta is None:
            raise CheckpointError(
                "config.json has no rope_theta, which transformers 4 reads as 25000 and transformers 5 as 10000 for "
                "Persimmon: add the value the model was trained with"
            )
        partial = scaling.get(
            "partial_rotary_factor", config.get("partial_rotary_factor", default_partial_rotary_factor)
        )
        dim = int(head_dim * partial)
        if dim < 2 or dim % 2 or dim > head_dim:
            raise CheckpointError(
                f"config.json has partial_rotary_factor={partial}, which rotates {dim} of {head_dim} dimensions: it "
                "must give an even number from 2 to the head's size"
            )
        rope_type = scaling.get("rope_type", scaling.get("type", "default"))
        if rope_type not in ("default", "linear", "dynamic"):
            raise CheckpointError(
                f"config.json has rope type {rope_type!r}, which is not supported: use default, linear or dynamic"
            )
        factor = scaling.get("factor", 1.0)
        if not isinstance(factor, int | float) or factor < 1:
            raise CheckpointError(f"config.json has rope scaling factor={factor!r}: it must be at least 1")
        if rope_type == "dynamic" and dim < 4:
            raise CheckpointError(f"config.json asks for dynamic rope on {dim} dimensions: it needs at least 4")
        return cls(
            theta=float(theta),
            dim=dim,
            rope_type=cast(RopeType, rope_type),
            factor=float(factor),
            max_position_embeddings=int(config["max_position_embeddings"]),
        )

    @property
    def context_length(self) -> int:
        """Tokens the scaled embedding reaches: the trained length times the factor, as vLLM reads it."""
        return int(self.max_position_embeddings * (1.0 if self.rope_type == "default" else self.factor))


class RotaryEmbedding:
    """Cosines and sines for a step's tokens, computed once a step and shared by all layers."""

    def __init__(self, config: RotaryConfig) -> None:
        self.config = config

    def cos_sin(self, positions: Tensor, rotary_lens: Tensor, *, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Angles in fp32 (as Hugging Face), then cast.

        Args:
            positions, rotary_lens: [num_tokens] int64, see `ForwardBatch`.
            dtype: of the result.

        Returns:
            cos, sin: [num_tokens, dim / 2].
        """
        angles = positions[:, None].float() * self._inverse_frequencies(rotary_lens)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _inverse_frequencies(self, rotary_lens: Tensor) -> Tensor:
        """[dim / 2], or [num_tokens, dim / 2] where they depend on the length; float32."""
        config = self.config
        device = rotary_lens.device
        exponents = torch.arange(0, config.dim, 2, dtype=torch.float32, device=device) / config.dim
        if config.rope_type != "dynamic":
            return 1.0 / (config.theta**exponents) / config.factor
        # base' = base * (factor * len / max - (factor - 1)) ^ (dim / (dim - 2)), len at least max
        length = rotary_lens.clamp(min=config.max_position_embeddings).float()
        growth = config.factor * length / config.max_position_embeddings - (config.factor - 1)
        base = config.theta * growth ** (config.dim / (config.dim - 2))
        return 1.0 / (base[:, None] ** exponents)

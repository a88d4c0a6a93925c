"""Rotary position embeddings: from a config's keys to the cosines and sines of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from kernels.qk_rotary import Rotation
from model.checkpoint.config_json import require
from model.checkpoint.errors import CheckpointError

RopeType = Literal["default", "linear", "dynamic", "llama3"]
ROPE_TYPES = get_args(RopeType)


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Scaling:
    """Llama 3's treatment of frequencies by wavelength (meta-llama/llama-models, apply_scaling): long ones are divided
    by the factor, short ones kept, those between blended. Wavelengths are in tokens."""

    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryConfig:
    """How positions become angles.

    Attributes:
        theta: base of the frequencies. dim: rotated dimensions of each head, even.
        rope_type: `default`; `linear` (positions divided by `factor`, Chen et al. 2023); `dynamic` (NTK-aware base
            that grows with the sequence beyond `max_position_embeddings`, as Hugging Face defines it); `llama3`.
        llama3: the numbers of the last, else `None`.
        position_dtype: in which positions and frequencies are multiplied: float32 as Hugging Face, or bfloat16 as
            Adept's own server ("for backward compatibility with models already trained"), which tells positions
            apart only up to 256 and gives all 16,384 of them 1,025 values.
    """

    theta: float
    dim: int
    max_position_embeddings: int
    rope_type: RopeType = "default"
    factor: float = 1.0
    llama3: Llama3Scaling | None = None
    position_dtype: torch.dtype = torch.float32

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        head_dim: int,
        default_partial_rotary_factor: float,
        default_theta: float | None,
        position_dtype: torch.dtype,
    ) -> RotaryConfig:
        """Read the old keys (`rope_theta`, `rope_scaling`, `partial_rotary_factor`) or the new (`rope_parameters`).

        Args:
            default_theta: where the config has none; `None` where it must.

        Raises:
            CheckpointError: a key is missing or holds a value that is not supported.
        """
        scaling = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
        theta = scaling.get("rope_theta", config.get("rope_theta", default_theta))
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
        if rope_type not in ROPE_TYPES:
            raise CheckpointError(
                f"config.json has rope type {rope_type!r}, which is not supported: use one of {', '.join(ROPE_TYPES)}"
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
            max_position_embeddings=require(config, "max_position_embeddings", int),
            llama3=_llama3(scaling) if rope_type == "llama3" else None,
            position_dtype=position_dtype,
        )

    @property
    def context_length(self) -> int:
        """Tokens the embedding reaches: `linear` and `dynamic` stretch the trained length, which is what their
        configs give, by the factor; configs of `llama3` give the stretched length (both as vLLM reads them)."""
        stretched = self.rope_type in ("linear", "dynamic")
        return int(self.max_position_embeddings * self.factor) if stretched else self.max_position_embeddings


def _llama3(scaling: Mapping[str, Any]) -> Llama3Scaling:
    low, high = require(scaling, "low_freq_factor", float), require(scaling, "high_freq_factor", float)
    if low >= high:
        raise CheckpointError(f"config.json has low_freq_factor={low}: it must be below high_freq_factor={high}")
    return Llama3Scaling(
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=require(scaling, "original_max_position_embeddings", int),
    )


class RotaryEmbedding:
    """Cosines and sines for a step's tokens, computed once a step and shared by all layers."""

    def __init__(self, config: RotaryConfig) -> None:
        self.config = config

    def rotation(self, positions: Tensor, rotary_lens: Tensor, *, dtype: torch.dtype) -> Rotation:
        """Angles in the config's `position_dtype`, their cosines in fp32, cast at the end.

        Args:
            positions, rotary_lens: [num_tokens] int64, see `ForwardBatch`.
            dtype: of the result.

        Returns:
            Cosines and sines, [num_tokens, dim / 2].
        """
        position_dtype = self.config.position_dtype
        frequencies = self._inverse_frequencies(rotary_lens).to(position_dtype)
        angles = (positions[:, None].to(position_dtype) * frequencies).float()
        # Adept's server rounds cosines to the position dtype as well (megatron/model/positional_embeddings.py)
        return Rotation(angles.cos().to(position_dtype).to(dtype), angles.sin().to(position_dtype).to(dtype))

    def _inverse_frequencies(self, rotary_lens: Tensor) -> Tensor:
        """[dim / 2], or [num_tokens, dim / 2] where they depend on the length; float32."""
        config = self.config
        exponents = torch.arange(0, config.dim, 2, dtype=torch.float32, device=rotary_lens.device) / config.dim
        if config.rope_type == "dynamic":
            # base' = base * (factor * len / max - (factor - 1)) ^ (dim / (dim - 2)), len at least max
            length = rotary_lens.clamp(min=config.max_position_embeddings).float()
            growth = config.factor * length / config.max_position_embeddings - (config.factor - 1)
            base = config.theta * growth ** (config.dim / (config.dim - 2))
            return 1.0 / (base[:, None] ** exponents)
        frequencies = 1.0 / (config.theta**exponents)
        if config.llama3 is None:
            return frequencies / config.factor if config.rope_type == "linear" else frequencies
        # 1 for wavelengths up to original / high_freq_factor, 0 from original / low_freq_factor on
        low, high = config.llama3.low_freq_factor, config.llama3.high_freq_factor
        turns = config.llama3.original_max_position_embeddings * frequencies / (2 * torch.pi)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return kept * frequencies + (1 - kept) * frequencies / config.factor

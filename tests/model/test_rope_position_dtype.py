"""Rotary positions in fp32 (Hugging Face) and in bf16 (Adept's own server): where the two part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint.errors import CheckpointError
from model.checkpoint.load import load_model
from model.interface import InvalidRequest
from model.layers.rotary import RotaryConfig, RotaryEmbedding
from model.open_engine import open_engine
from model.parity.our_forward import our_logits
from model.parity.random_checkpoint import random_prompt, save_random_mpt, save_random_persimmon

CPU = torch.device("cpu")


def embedding(position_dtype: torch.dtype) -> RotaryEmbedding:
    """The published model's."""
    return RotaryEmbedding(
        RotaryConfig(theta=25000.0, dim=32, max_position_embeddings=16384, position_dtype=position_dtype)
    )


def adept_cos_sin(num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """adept-inference, megatron/model/positional_embeddings.py, with the module cast to bfloat16 as its server does."""
    inverse = (1.0 / (25000.0 ** (torch.arange(0, 32, 2).float() / 32))).bfloat16()
    positions = torch.arange(num_positions).type_as(inverse)
    angles = torch.einsum("i,j->ij", positions, inverse).float()
    return angles.cos().bfloat16(), angles.sin().bfloat16()


def test_bfloat16_positions_are_adepts() -> None:
    positions = torch.arange(16384)
    cos, sin = embedding(torch.bfloat16).rotation(positions, positions + 1, dtype=torch.float32)
    expected = adept_cos_sin(16384)
    assert torch.equal(cos, expected[0].float())
    assert torch.equal(sin, expected[1].float())


def test_the_two_part_beyond_position_256() -> None:
    positions = torch.arange(16384)
    fine, _ = embedding(torch.float32).rotation(positions, positions + 1, dtype=torch.float32)
    coarse, _ = embedding(torch.bfloat16).rotation(positions, positions + 1, dtype=torch.float32)
    # the first frequency is exactly 1, so its angle is the position itself
    apart = (fine[:, 0] - coarse[:, 0]).abs() > 2**-8  # more than the rounding of the cosine
    assert not apart[:257].any()
    assert apart[257]
    assert apart[257:].float().mean() > 0.5
    assert len(positions.bfloat16().unique()) == 1025


def test_logits_differ_only_with_the_option(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, max_position_embeddings=512, num_hidden_layers=1)
    ids = random_prompt(count=400)
    fine = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    coarse = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32, rope_position_dtype=torch.bfloat16), ids)
    near = (fine - coarse)[:200].abs().mean()
    far = (fine - coarse)[300:].abs().mean()
    assert 0 < near < far


def test_the_option_is_checked_and_recorded(random_checkpoint: Path, tmp_path: Path) -> None:
    engine = open_engine(str(random_checkpoint), device="cpu", rope_position_dtype="bfloat16")
    assert engine.info.rope_position_dtype == "bfloat16"
    engine.close()
    with pytest.raises(InvalidRequest, match="rope_position_dtype='int8'"):
        open_engine(str(random_checkpoint), rope_position_dtype="int8")
    save_random_mpt(tmp_path)
    with pytest.raises(CheckpointError, match="MPT has no rotary positions"):
        load_model(tmp_path, device=CPU, dtype=torch.float32, rope_position_dtype=torch.bfloat16)

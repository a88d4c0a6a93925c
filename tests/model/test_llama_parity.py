"""Our Llama against Hugging Face's, random weights, through the real loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import save_random_llama, token_ids
from random_persimmon import our_logits

from model.checkpoint.load import load_model

CPU = torch.device("cpu")


def rope(**changes: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0} | changes


CONFIGS: dict[str, dict[str, Any]] = {
    "multi-head": {},
    "grouped queries": {"num_key_value_heads": 2},
    "one key-value head": {"num_key_value_heads": 1},
    "odd heads": {"num_attention_heads": 6, "num_key_value_heads": 3},
    "explicit head size": {"head_dim": 20, "num_key_value_heads": 2},
    "attention bias": {"attention_bias": True},
    "mlp bias": {"mlp_bias": True},
    "tied embeddings": {"tie_word_embeddings": True},
    "linear rope": {"rope_parameters": rope(rope_type="linear", factor=3.0)},
    "dynamic rope beyond the trained length": {
        "max_position_embeddings": 16,
        "rope_parameters": rope(rope_type="dynamic", factor=4.0),
    },
    "llama3 rope": {
        "head_dim": 32,
        "rope_parameters": rope(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    },
    "other base and epsilon": {"rope_parameters": rope(rope_theta=500000.0), "rms_norm_eps": 1e-2},
    "gelu": {"hidden_act": "gelu"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_hugging_face(name: str, tmp_path: Path) -> None:
    reference = save_random_llama(tmp_path, **CONFIGS[name])
    ids = token_ids()
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    assert (our_logits(model, ids) - expected).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(1, 17, 3, 20)) - expected).abs().max() <= 1e-4


def test_bfloat16_is_near_hugging_faces(tmp_path: Path) -> None:
    """bf16 rounds at 2^-8; both sides may differ from fp32 by as much as they differ from each other."""
    reference = save_random_llama(tmp_path, num_key_value_heads=2)
    ids = token_ids()
    with torch.inference_mode():
        exact = reference(torch.tensor([ids])).logits[0]
        rounded = reference.to(torch.bfloat16)(torch.tensor([ids])).logits[0].float()
    logits = our_logits(load_model(tmp_path, device=CPU, dtype=torch.bfloat16), ids)
    assert (logits - exact).abs().mean() <= 1.25 * (rounded - exact).abs().mean()

"""Our Persimmon against Hugging Face's, random weights, through the real loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from random_persimmon import our_logits, save_random_persimmon

from model.checkpoint.load import load_model

CPU = torch.device("cpu")


def rope(**changes: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5} | changes


CONFIGS: dict[str, dict[str, Any]] = {
    "published shape": {},
    "one head": {"num_attention_heads": 1},
    "three heads": {"num_attention_heads": 3},
    "twelve small heads": {"num_attention_heads": 12, "rope_parameters": rope(partial_rotary_factor=1.0)},
    "rotary share that rounds": {"rope_parameters": rope(partial_rotary_factor=0.34)},
    "rotary 0.25": {"hidden_size": 64, "num_attention_heads": 4, "rope_parameters": rope(partial_rotary_factor=0.25)},
    "full rotary": {"rope_parameters": rope(partial_rotary_factor=1.0)},
    "other base": {"rope_parameters": rope(rope_theta=10000.0)},
    "linear rope": {"rope_parameters": rope(rope_type="linear", factor=3.0)},
    "dynamic rope below the trained length": {"rope_parameters": rope(rope_type="dynamic", factor=2.0)},
    "dynamic rope beyond the trained length": {
        "max_position_embeddings": 16,
        "rope_parameters": rope(rope_type="dynamic", factor=4.0),
    },
    "no q/k layernorm": {"qk_layernorm": False},
    "tied embeddings": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu"},
    "silu": {"hidden_act": "silu"},
    "gelu_new": {"hidden_act": "gelu_new"},
    "quick_gelu": {"hidden_act": "quick_gelu"},
    "odd vocabulary": {"vocab_size": 5003},
    "other epsilon": {"layer_norm_eps": 1e-2},
    "one layer": {"num_hidden_layers": 1},
}


def token_ids(vocab_size: int, count: int = 41) -> list[int]:
    return torch.randint(0, vocab_size, (count,), generator=torch.Generator().manual_seed(7)).tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_hugging_face(name: str, tmp_path: Path) -> None:
    reference = save_random_persimmon(tmp_path, **CONFIGS[name])
    ids = token_ids(reference.config.vocab_size)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    logits = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    assert (logits - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["published shape", "dynamic rope beyond the trained length"])
def test_chunks_equal_whole(name: str, tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, **CONFIGS[name])
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    ids = token_ids(211)
    whole = our_logits(model, ids)
    assert (our_logits(model, ids, chunks=(1, 17, 3, 19, 1)) - whole).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(1,) * 41) - whole).abs().max() <= 1e-4


def test_bfloat16_is_near_hugging_faces(tmp_path: Path) -> None:
    """bf16 rounds at 2^-8; both sides may differ from fp32 by as much as they differ from each other."""
    reference = save_random_persimmon(tmp_path)
    ids = token_ids(211)
    with torch.inference_mode():
        exact = reference(torch.tensor([ids])).logits[0]
        rounded = reference.to(torch.bfloat16)(torch.tensor([ids])).logits[0].float()
    logits = our_logits(load_model(tmp_path, device=CPU, dtype=torch.bfloat16), ids)
    assert (logits - exact).abs().mean() <= 1.25 * (rounded - exact).abs().mean()


def test_old_style_rope_keys_mean_the_same(tmp_path: Path) -> None:
    """Checkpoints written by transformers 4 (the published ones) have rope_theta and rope_scaling at the top level."""
    import json

    save_random_persimmon(tmp_path, rope_parameters=rope(rope_type="linear", factor=2.0))
    ids = token_ids(211)
    new = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    config |= {
        "rope_theta": 25000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "partial_rotary_factor": 0.5,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "hidden_dropout": 0.6,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    old = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    assert torch.equal(old, new)

"""Our Persimmon against Hugging Face's, random weights, through the real loader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint.load import load_model
from model.parity.cases import PERSIMMON
from model.parity.our_forward import our_logits
from model.parity.random_checkpoint import random_prompt, save_random_persimmon

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", PERSIMMON)
def test_logits_equal_hugging_face(name: str, tmp_path: Path) -> None:
    reference = save_random_persimmon(tmp_path, **PERSIMMON[name])
    ids = random_prompt(reference.config.vocab_size)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    logits = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    assert (logits - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["published shape", "dynamic rope beyond the trained length"])
def test_chunks_equal_whole(name: str, tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, **PERSIMMON[name])
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    ids = random_prompt()
    whole = our_logits(model, ids)
    assert (our_logits(model, ids, chunks=(1, 17, 3, 19, 1)) - whole).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(1,) * 41) - whole).abs().max() <= 1e-4


def test_bfloat16_is_near_hugging_faces(tmp_path: Path) -> None:
    """bf16 rounds at 2^-8; both sides may differ from fp32 by as much as they differ from each other."""
    reference = save_random_persimmon(tmp_path)
    ids = random_prompt()
    with torch.inference_mode():
        exact = reference(torch.tensor([ids])).logits[0]
        rounded = reference.to(torch.bfloat16)(torch.tensor([ids])).logits[0].float()
    logits = our_logits(load_model(tmp_path, device=CPU, dtype=torch.bfloat16), ids)
    assert (logits - exact).abs().mean() <= 1.25 * (rounded - exact).abs().mean()


def test_old_style_rope_keys_mean_the_same(tmp_path: Path) -> None:
    """Checkpoints written by transformers 4 (the published ones) have rope_theta and rope_scaling at the top level."""
    import json

    save_random_persimmon(
        tmp_path,
        rope_parameters={
            "rope_type": "linear",
            "rope_theta": 25000.0,
            "partial_rotary_factor": 0.5,
            "factor": 2.0,
        },
    )
    ids = random_prompt()
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

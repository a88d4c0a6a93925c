"""Our Llama against Hugging Face's, random weights, through the real loader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint.load import load_model
from model.parity.cases import LLAMA
from model.parity.our_forward import our_logits
from model.parity.random_checkpoint import random_prompt, save_random_llama

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", LLAMA)
def test_logits_equal_hugging_face(name: str, tmp_path: Path) -> None:
    reference = save_random_llama(tmp_path, **LLAMA[name])
    ids = random_prompt()
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    assert (our_logits(model, ids) - expected).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(1, 17, 3, 20)) - expected).abs().max() <= 1e-4


def test_bfloat16_is_near_hugging_faces(tmp_path: Path) -> None:
    """bf16 rounds at 2^-8; both sides may differ from fp32 by as much as they differ from each other."""
    reference = save_random_llama(tmp_path, num_key_value_heads=2)
    ids = random_prompt()
    with torch.inference_mode():
        exact = reference(torch.tensor([ids])).logits[0]
        rounded = reference.to(torch.bfloat16)(torch.tensor([ids])).logits[0].float()
    logits = our_logits(load_model(tmp_path, device=CPU, dtype=torch.bfloat16), ids)
    assert (logits - exact).abs().mean() <= 1.25 * (rounded - exact).abs().mean()

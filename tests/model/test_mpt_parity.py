"""Our MPT against Hugging Face's where that is right, and against MosaicML's definition where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint.errors import CheckpointError
from model.checkpoint.load import load_model
from model.interface import InvalidRequest, SamplingParams
from model.layers.alibi import alibi_slopes
from model.open_engine import open_engine
from model.parity.cases import MPT, MPT_BY_DEFINITION
from model.parity.hugging_face import HuggingFace
from model.parity.mpt_definition import MptDefinition
from model.parity.our_forward import our_logits
from model.parity.random_checkpoint import random_prompt, save_random_mpt, save_random_mpt_by_definition

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", MPT)
def test_logits_equal_hugging_face(name: str, tmp_path: Path) -> None:
    reference = save_random_mpt(tmp_path, **MPT[name])
    ids = random_prompt(reference.config.vocab_size)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    assert (our_logits(model, ids) - expected).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(1, 17, 3, 20)) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", MPT_BY_DEFINITION)
def test_logits_equal_mosaics_definition(name: str, tmp_path: Path) -> None:
    save_random_mpt_by_definition(tmp_path, MPT_BY_DEFINITION[name])
    ids = random_prompt()
    expected = MptDefinition(tmp_path).logits(ids)
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    assert (our_logits(model, ids) - expected).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(40, 1)) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", MPT_BY_DEFINITION)
def test_hugging_face_cannot_be_the_measure(name: str, tmp_path: Path) -> None:
    """Where transformers learns an option, its case belongs to those compared with it."""
    save_random_mpt_by_definition(tmp_path, MPT_BY_DEFINITION[name])
    ids = random_prompt()
    expected = MptDefinition(tmp_path).logits(ids)
    if name in ("narrow mlp", "beyond the trained length"):
        with pytest.raises(RuntimeError, match="size"):
            HuggingFace(tmp_path, dtype=torch.float32).logits(ids)
        return
    difference = (HuggingFace(tmp_path, dtype=torch.float32).logits(ids) - expected).abs().max()
    if name in ("published shape", "untied head"):  # these confirm the definition
        assert difference <= 1e-4
    else:
        assert difference > 0.5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"attn_config": {"attn_type": "multiquery_attention"}}, "attn_type='multiquery_attention': only"),
        ({"attn_config": {"prefix_lm": True}}, "prefix_lm=True: only False"),
        ({"norm_type": "rmsnorm"}, "norm_type='rmsnorm'"),
        ({"n_heads": 5}, "d_model=48, which n_heads=5 does not divide"),
        ({"no_bias": False}, r"lacks the tensor transformer\."),
        ({"attn_config": {"clip_qkv": -1}}, "clip_qkv=-1: it must be a positive number"),
    ],
)
def test_bad_configs_name_the_key(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    save_random_mpt(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {**changes, "attn_config": {**config["attn_config"], **changes.get("attn_config", {})}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=sentence):
        load_model(tmp_path, device=CPU, dtype=torch.float32)


def test_bfloat16_is_near_hugging_faces(tmp_path: Path) -> None:
    """bf16 rounds at 2^-8; both sides may differ from fp32 by as much as they differ from each other."""
    reference = save_random_mpt(tmp_path)
    ids = random_prompt()
    with torch.inference_mode():
        exact = reference(torch.tensor([ids])).logits[0]
        rounded = reference.to(torch.bfloat16)(torch.tensor([ids])).logits[0].float()
    logits = our_logits(load_model(tmp_path, device=CPU, dtype=torch.bfloat16), ids)
    assert (logits - exact).abs().mean() <= 1.25 * (rounded - exact).abs().mean()


def test_slopes_of_the_published_model() -> None:
    slopes = alibi_slopes(32, bias_max=8, device=CPU)
    torch.testing.assert_close(slopes, torch.tensor([2 ** (-8 * i / 32) for i in range(1, 33)]))


def test_alibi_goes_beyond_the_trained_length_where_asked(tmp_path: Path, sentencepiece_model: bytes) -> None:
    save_random_mpt(tmp_path, vocab_size=600, max_seq_len=16)
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)
    params = SamplingParams(temperature=0.0, max_tokens=None, ignore_eos=True)
    engine = open_engine(str(tmp_path), device="cpu", context_length=40)
    completion = engine.generate([[5] * 20], params)[0]
    engine.close()
    assert len(completion.token_ids) == 20
    engine = open_engine(str(tmp_path), device="cpu")
    assert engine.info.context_length == 16
    engine.close()


def test_other_models_stay_within_theirs(random_checkpoint: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"context_length=129 is not allowed: .* takes 2 to 128"):
        open_engine(str(random_checkpoint), device="cpu", context_length=129)

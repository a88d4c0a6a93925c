"""Our MPT against Hugging Face's where that is right, and against MosaicML's definition where it is not.

transformers 5.23 ignores biases, q/k norms, learned positions, `expansion_ratio`, `alibi_bias_max` and `logit_scale`,
and fails beyond `max_seq_len`; each of these is compared with `mosaic_logits`, an independent forward.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from random_models import save_random_mpt, token_ids
from random_persimmon import our_logits
from safetensors.torch import load_file, save_file

from model.checkpoint.errors import CheckpointError
from model.checkpoint.load import load_model
from model.interface import InvalidRequest, SamplingParams
from model.layers.alibi import alibi_slopes
from model.open_engine import open_engine

CPU = torch.device("cpu")

LIKE_HUGGING_FACE: dict[str, dict[str, Any]] = {
    "published shape": {},
    "one head": {"n_heads": 1},
    "three heads": {"n_heads": 3},
    "six heads": {"n_heads": 6},
    "twelve heads": {"n_heads": 12},
    "clipped": {"attention": {"clip_qkv": 0.7}},
    "own softmax scale": {"attention": {"softmax_scale": 0.2}},
    "odd vocabulary": {"vocab_size": 1013},
    "other epsilon": {"layer_norm_epsilon": 1e-2},
}

# Changes of config.json, and the tensors they need beside the usual ones.
BEYOND_HUGGING_FACE: dict[str, dict[str, Any]] = {
    "published shape": {},
    "bias maximum 16": {"attn_config": {"alibi_bias_max": 16}},
    "bias maximum 4, three heads": {"attn_config": {"alibi_bias_max": 4}, "n_heads": 3},
    "biases": {"no_bias": False},
    "q/k norms": {"attn_config": {"qk_ln": True}},
    "q/k norms with biases": {"attn_config": {"qk_ln": True}, "no_bias": False},
    "learned positions": {"attn_config": {"alibi": False}},
    "no positions at all": {"attn_config": {"alibi": False}, "learned_pos_emb": False},
    "narrow mlp": {"expansion_ratio": 2},
    "logit scale": {"logit_scale": 0.25},
    "named logit scale": {"logit_scale": "inv_sqrt_d_model"},
    "beyond the trained length": {"max_seq_len": 16},
    "untied head": {"tie_word_embeddings": False},
    "all at once": {
        "attn_config": {"alibi_bias_max": 6, "qk_ln": True, "clip_qkv": 1.5, "softmax_scale": 0.3},
        "n_heads": 6,
        "no_bias": False,
        "logit_scale": 0.5,
    },
}


def mosaic_logits(tensors: dict[str, torch.Tensor], config: dict[str, Any], ids: list[int]) -> torch.Tensor:
    """MPT as llm-foundry defines it, whole and dense, in float64: [num_tokens, vocab_size]."""
    t = {name: tensor.double() for name, tensor in tensors.items()}
    attention, size, heads = config["attn_config"], config["d_model"], config["n_heads"]
    length, head_dim = len(ids), size // heads

    def norm(states: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(states, (size,), t[f"{name}.weight"], t.get(f"{name}.bias"), config["layer_norm_epsilon"])

    def linear(states: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(states, t[f"{name}.weight"], t.get(f"{name}.bias"))

    scores_bias = torch.full((length, length), -torch.inf).triu(1).double().expand(heads, length, length).clone()
    if attention.get("alibi", True):
        full = 2 ** math.ceil(math.log2(heads))
        slopes = [2 ** (-attention.get("alibi_bias_max", 8) * (i + 1) / full) for i in range(full)]
        if full != heads:
            slopes = (slopes[1::2] + slopes[::2])[:heads]
        for head, slope in enumerate(slopes):
            for query in range(length):
                for key in range(query + 1):
                    scores_bias[head, query, key] += slope * (key - query)
    states = t["transformer.wte.weight"][ids]
    if "transformer.wpe.weight" in t:
        states = states + t["transformer.wpe.weight"][:length]
    for i in range(config["n_layers"]):
        block = f"transformer.blocks.{i}"
        qkv = linear(norm(states, f"{block}.norm_1"), f"{block}.attn.Wqkv")
        if attention.get("clip_qkv"):
            qkv = qkv.clamp(-attention["clip_qkv"], attention["clip_qkv"])
        query_states, key_states, value_states = qkv.split(size, dim=-1)
        if attention.get("qk_ln"):
            query_states = norm(query_states, f"{block}.attn.q_ln")
            key_states = norm(key_states, f"{block}.attn.k_ln")
        q, k, v = (x.view(length, heads, head_dim).transpose(0, 1) for x in (query_states, key_states, value_states))
        scale = attention.get("softmax_scale") or head_dim**-0.5
        weights = (q @ k.transpose(1, 2) * scale + scores_bias).softmax(-1)
        states = states + linear((weights @ v).transpose(0, 1).flatten(1), f"{block}.attn.out_proj")
        hidden = F.gelu(linear(norm(states, f"{block}.norm_2"), f"{block}.ffn.up_proj"))
        states = states + linear(hidden, f"{block}.ffn.down_proj")
    head = t.get("lm_head.weight", t["transformer.wte.weight"])
    logit_scale = config.get("logit_scale") or 1.0
    return norm(states, "transformer.norm_f") @ head.T * (size**-0.5 if isinstance(logit_scale, str) else logit_scale)


def save_mosaic(folder: Path, changes: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A random checkpoint with options that Hugging Face's class has no tensors for; the tensors and config.json."""
    save_random_mpt(folder, n_heads=changes.get("n_heads", 4))
    config = json.loads((folder / "config.json").read_text())
    config |= {**changes, "attn_config": {**config["attn_config"], **changes.get("attn_config", {})}}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    size, inner = config["d_model"], config["d_model"] * config.get("expansion_ratio", 4)
    for i in range(config["n_layers"]):
        block = f"transformer.blocks.{i}"
        tensors[f"{block}.ffn.up_proj.weight"] = tensors[f"{block}.ffn.up_proj.weight"][:inner].clone()
        tensors[f"{block}.ffn.down_proj.weight"] = tensors[f"{block}.ffn.down_proj.weight"][:, :inner].clone()
        if config["attn_config"].get("qk_ln"):
            tensors[f"{block}.attn.q_ln.weight"] = 1 + random(size)
            tensors[f"{block}.attn.k_ln.weight"] = 1 + random(size)
    if not config["attn_config"].get("alibi", True) and config.get("learned_pos_emb", True):
        tensors["transformer.wpe.weight"] = random(config["max_seq_len"], size)
    if not config.get("no_bias", True):
        for name in [name for name in tensors if not name.endswith(("wte.weight", "wpe.weight"))]:
            tensors[name.removesuffix("weight") + "bias"] = random(len(tensors[name]))
    if not config.get("tie_word_embeddings", True):
        tensors["lm_head.weight"] = random(config["vocab_size"], size)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors, config


@pytest.mark.parametrize("name", LIKE_HUGGING_FACE)
def test_logits_equal_hugging_face(name: str, tmp_path: Path) -> None:
    reference = save_random_mpt(tmp_path, **LIKE_HUGGING_FACE[name])
    ids = token_ids(reference.config.vocab_size)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    assert (our_logits(model, ids) - expected).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(1, 17, 3, 20)) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", BEYOND_HUGGING_FACE)
def test_logits_equal_mosaics_definition(name: str, tmp_path: Path) -> None:
    tensors, config = save_mosaic(tmp_path, BEYOND_HUGGING_FACE[name])
    ids = token_ids()
    expected = mosaic_logits(tensors, config, ids)
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    assert (our_logits(model, ids) - expected).abs().max() <= 1e-4
    assert (our_logits(model, ids, chunks=(40, 1)) - expected).abs().max() <= 1e-4


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
    ids = token_ids()
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
    with pytest.raises(InvalidRequest, match="context_length=129 is not allowed: this model takes 2 to 128"):
        open_engine(str(random_checkpoint), device="cpu", context_length=129)

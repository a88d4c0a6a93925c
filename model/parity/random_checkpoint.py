"""Random checkpoints of the three families at small size, written by Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    PersimmonConfig,
    PersimmonForCausalLM,
)

VOCAB_SIZE = 211
PROMPT_TOKENS = 41


def save_random_persimmon(
    folder: Path, *, seed: int = 0, shard: str | None = None, hot: bool = False, **changes: Any
) -> PersimmonForCausalLM:
    """A Hugging Face Persimmon, saved to `folder`, eager mode.

    Args:
        shard: size of the weight files, such as "60KB"; `None` gives one file.
        hot: whether the second layer has activations of about 400, whose squares float16 cannot hold, and small weights
            after them.
        changes: keys of `PersimmonConfig`.
    """
    settings: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "hidden_act": "relu2",
        "rope_parameters": {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "eager",
    }
    model = PersimmonForCausalLM(PersimmonConfig(**(settings | changes))).eval()
    randomize(model, seed)
    if hot:
        mlp = model.model.layers[1].mlp
        mlp.dense_h_to_4h.bias.data += 400.0
        mlp.dense_4h_to_h.weight.data *= 1e-3
    model.save_pretrained(folder, **({} if shard is None else {"max_shard_size": shard}))
    return model


def save_random_llama(folder: Path, *, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A Hugging Face Llama, saved to `folder`, eager mode; `changes` are keys of `LlamaConfig`."""
    settings: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attn_implementation": "eager",
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()
    randomize(model, seed)
    model.save_pretrained(folder)
    return model


def save_random_mpt(
    folder: Path, *, seed: int = 0, attention: dict[str, Any] | None = None, **changes: Any
) -> MptForCausalLM:
    """A Hugging Face MPT, saved to `folder`; `attention` is its `attn_config`, `changes` are keys of `MptConfig`."""
    settings: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "d_model": 48,
        "n_heads": 4,
        "n_layers": 3,
        "max_seq_len": 64,
        "attn_config": attention or {},
    }
    model = MptForCausalLM(MptConfig(**(settings | changes))).eval()
    randomize(model, seed)
    model.save_pretrained(folder)
    return model


def save_random_mpt_by_definition(folder: Path, changes: Mapping[str, Any]) -> None:
    """A random MPT with options that Hugging Face's class has no tensors for, saved to `folder`.

    Args:
        changes: keys of config.json, those of `attn_config` merged with the usual ones.
    """
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


@torch.no_grad()
def randomize(model: torch.nn.Module, seed: int) -> None:
    """Weights so large that logits differ by units: with the usual small ones all models agree."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() == 1 else 0.2))
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)


def random_prompt(vocab_size: int = VOCAB_SIZE, count: int = PROMPT_TOKENS) -> list[int]:
    """The same random token ids for everybody."""
    ids: list[int] = torch.randint(0, vocab_size, (count,), generator=torch.Generator().manual_seed(7)).tolist()
    return ids

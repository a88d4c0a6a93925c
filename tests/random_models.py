"""Random MPT and Llama checkpoints at small size, written by Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from random_persimmon import randomize
from transformers import LlamaConfig, LlamaForCausalLM, MptConfig, MptForCausalLM


def save_random_llama(folder: Path, *, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A Hugging Face Llama, saved to `folder`, eager mode."""
    settings: dict[str, Any] = {
        "vocab_size": 211,
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
    """A Hugging Face MPT, saved to `folder`."""
    settings: dict[str, Any] = {
        "vocab_size": 211,
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


def token_ids(vocab_size: int = 211, count: int = 41) -> list[int]:
    """The same random prompt for everybody."""
    ids: list[int] = torch.randint(0, vocab_size, (count,), generator=torch.Generator().manual_seed(7)).tolist()
    return ids

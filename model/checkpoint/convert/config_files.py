"""config.json, generation_config.json and README.md of a converted release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.checkpoint.convert.digests import PublishedRelease
from model.checkpoint.convert.hyper_parameters import HyperParameters


def config_json(sizes: HyperParameters, *, vocab_size: int, end_of_text: int, dtype: str) -> dict[str, Any]:
    """Keys of Hugging Face's PersimmonConfig. Rotary settings are there twice: `rope_parameters` for transformers 5,
    the plain keys for transformers 4; neither may be left out, for 5's own default base is 10,000."""
    return {
        "architectures": ["PersimmonForCausalLM"],
        "model_type": "persimmon",
        "vocab_size": vocab_size,
        "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.ffn_hidden_size,
        "num_hidden_layers": sizes.num_layers,
        "num_attention_heads": sizes.num_attention_heads,
        "hidden_act": "relu2",
        "qk_layernorm": sizes.qk_layernorm,
        "layer_norm_eps": sizes.layer_norm_eps,
        "max_position_embeddings": sizes.max_position_embeddings,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": sizes.rotary_base,
            "partial_rotary_factor": sizes.rotary_share,
        },
        "rope_theta": sizes.rotary_base,
        "partial_rotary_factor": sizes.rotary_share,
        "tie_word_embeddings": False,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "dtype": dtype,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """An indented JSON file."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def generation_config_json(*, end_of_text: int) -> dict[str, Any]:
    """What stops Hugging Face's `generate`."""
    return {
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "do_sample": False,
    }


def readme(published: PublishedRelease) -> str:
    """A card with the licence of the published release that this was converted from."""
    return (
        f"---\nlicense: {published.licence}\n---\n\n"
        f"Converted from Adept's {published.file_name}, whose licence is {published.terms}; see conversion.json.\n"
    )

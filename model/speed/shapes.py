"""config.json of the models that are measured: the published shapes, and small ones on which everything can be tried.

Sources: the Hub's config.json of adept/persimmon-8b-base, meta-llama/Llama-2-7b-hf and mosaicml/mpt-7b-instruct.
"""

from __future__ import annotations

from typing import Any, Literal

from model.interface import InvalidRequest

Size = Literal["full", "tiny"]

SHAPES: dict[Size, dict[str, dict[str, Any]]] = {
    "full": {
        "persimmon-8b": {
            "model_type": "persimmon",
            "vocab_size": 262144,
            "hidden_size": 4096,
            "intermediate_size": 16384,
            "num_hidden_layers": 36,
            "num_attention_heads": 64,
            "hidden_act": "relu2",
            "layer_norm_eps": 1e-5,
            "qk_layernorm": True,
            "tie_word_embeddings": False,
            "max_position_embeddings": 16384,
            "rope_parameters": {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        },
        "llama-2-7b": {
            "model_type": "llama",
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "mpt-7b": {
            "model_type": "mpt",
            "vocab_size": 50432,
            "d_model": 4096,
            "n_heads": 32,
            "n_layers": 32,
            "expansion_ratio": 4,
            "max_seq_len": 2048,
            "no_bias": True,
            "attn_config": {"alibi": True, "alibi_bias_max": 8},
        },
    },
    "tiny": {
        "persimmon-8b": {
            "model_type": "persimmon",
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "hidden_act": "relu2",
            "layer_norm_eps": 1e-5,
            "qk_layernorm": True,
            "tie_word_embeddings": False,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        },
        "llama-2-7b": {
            "model_type": "llama",
            "vocab_size": 256,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "mpt-7b": {
            "model_type": "mpt",
            "vocab_size": 256,
            "d_model": 64,
            "n_heads": 4,
            "n_layers": 2,
            "expansion_ratio": 4,
            "max_seq_len": 512,
            "no_bias": True,
            "attn_config": {"alibi": True, "alibi_bias_max": 8},
        },
    },
}


def shape_of(checkpoint: str) -> tuple[str, dict[str, Any]]:
    """Name and config.json of `size/name`, such as `full/persimmon-8b`.

    Raises:
        InvalidRequest: there is no such shape.
    """
    size, _, name = checkpoint.partition("/")
    for known, shapes in SHAPES.items():
        if known == size and name in shapes:
            return name, shapes[name]
    choices = ", ".join(f"{size}/{name}" for size, shapes in SHAPES.items() for name in shapes)
    raise InvalidRequest(f"{checkpoint!r} is no shape with random weights: use one of {choices}")

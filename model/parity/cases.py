"""Every configuration that is compared, by family and name; tests and page take them from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from model.checkpoint.config_json import read_json
from model.parity.bundled import bundled_folders, bundled_prompt
from model.parity.random_checkpoint import (
    random_prompt,
    save_random_llama,
    save_random_mpt,
    save_random_mpt_by_definition,
    save_random_persimmon,
)

# Headings of the page.
SECTIONS = {"persimmon": "Persimmon", "mpt": "MPT", "llama": "Llama"}
BY_DEFINITION = "MPT by its definition"
BUNDLED = "Bundled checkpoints"


class Oracle(Enum):
    """What our logits are compared with."""

    HUGGING_FACE = "Hugging Face"
    DEFINITION = "definition"  # model.parity.mpt_definition


def _rope(theta: float, **changes: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta} | changes


def _persimmon_rope(**changes: Any) -> dict[str, Any]:
    return _rope(25000.0, partial_rotary_factor=0.5) | changes


PERSIMMON: dict[str, dict[str, Any]] = {
    "published shape": {},
    "one head": {"num_attention_heads": 1},
    "three heads": {"num_attention_heads": 3},
    "twelve small heads": {"num_attention_heads": 12, "rope_parameters": _persimmon_rope(partial_rotary_factor=1.0)},
    "rotary share that rounds": {"rope_parameters": _persimmon_rope(partial_rotary_factor=0.34)},
    "rotary 0.25": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "rope_parameters": _persimmon_rope(partial_rotary_factor=0.25),
    },
    "full rotary": {"rope_parameters": _persimmon_rope(partial_rotary_factor=1.0)},
    "other base": {"rope_parameters": _persimmon_rope(rope_theta=10000.0)},
    "linear rope": {"rope_parameters": _persimmon_rope(rope_type="linear", factor=3.0)},
    "dynamic rope below the trained length": {"rope_parameters": _persimmon_rope(rope_type="dynamic", factor=2.0)},
    "dynamic rope beyond the trained length": {
        "max_position_embeddings": 16,
        "rope_parameters": _persimmon_rope(rope_type="dynamic", factor=4.0),
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
    "squares beyond float16": {"hot": True},
}

LLAMA: dict[str, dict[str, Any]] = {
    "multi-head": {},
    "grouped queries": {"num_key_value_heads": 2},
    "one key-value head": {"num_key_value_heads": 1},
    "odd heads": {"num_attention_heads": 6, "num_key_value_heads": 3},
    "explicit head size": {"head_dim": 20, "num_key_value_heads": 2},
    "attention bias": {"attention_bias": True},
    "mlp bias": {"mlp_bias": True},
    "tied embeddings": {"tie_word_embeddings": True},
    "linear rope": {"rope_parameters": _rope(10000.0, rope_type="linear", factor=3.0)},
    "dynamic rope beyond the trained length": {
        "max_position_embeddings": 16,
        "rope_parameters": _rope(10000.0, rope_type="dynamic", factor=4.0),
    },
    "llama3 rope": {
        "head_dim": 32,
        "rope_parameters": _rope(
            10000.0,
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    },
    "other base and epsilon": {"rope_parameters": _rope(500000.0), "rms_norm_eps": 1e-2},
    "gelu": {"hidden_act": "gelu"},
}

MPT: dict[str, dict[str, Any]] = {
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

# Changes of config.json. transformers 5.23 ignores biases, q/k norms, learned positions, `expansion_ratio`,
# `alibi_bias_max` and `logit_scale`, and fails beyond `max_seq_len`.
MPT_BY_DEFINITION: dict[str, dict[str, Any]] = {
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One comparison, a row of the page.

    Attributes:
        family: a config.json's `model_type`.
        name: of the configuration, or of the bundled folder.
        oracle: what is compared with.
        changes: of the random checkpoint's settings.
        bundled: a folder with trained weights, used as it is; `None` for a random checkpoint.

    Name and :attr:`section` together are unique.
    """

    family: str
    name: str
    oracle: Oracle = Oracle.HUGGING_FACE
    changes: Mapping[str, Any] = field(default_factory=dict)
    bundled: Path | None = None

    @property
    def section(self) -> str:
        """The heading of the page under which the row stands."""
        if self.bundled is not None:
            return BUNDLED
        return BY_DEFINITION if self.oracle is Oracle.DEFINITION else SECTIONS[self.family]

    def checkpoint(self, scratch: Path) -> Path:
        """The checkpoint's folder: the bundled one, else `scratch`, an empty folder in which it is made."""
        if self.bundled is not None:
            return self.bundled
        if self.oracle is Oracle.DEFINITION:
            save_random_mpt_by_definition(scratch, self.changes)
        else:
            {"persimmon": save_random_persimmon, "mpt": save_random_mpt, "llama": save_random_llama}[self.family](
                scratch, **self.changes
            )
        return scratch

    def prompt(self, folder: Path) -> list[int]:
        """Token ids of the prompt, for the folder that :meth:`checkpoint` gave."""
        if self.bundled is not None:
            return bundled_prompt(folder)
        return random_prompt(read_json(folder / "config.json")["vocab_size"])


def random_cases() -> list[Case]:
    """Cases with random weights, in the page's order."""
    return [
        Case(family=family, name=name, oracle=oracle, changes=changes)
        for family, oracle, named in (
            ("persimmon", Oracle.HUGGING_FACE, PERSIMMON),
            ("mpt", Oracle.HUGGING_FACE, MPT),
            ("mpt", Oracle.DEFINITION, MPT_BY_DEFINITION),
            ("llama", Oracle.HUGGING_FACE, LLAMA),
        )
        for name, changes in named.items()
    ]


def bundled_cases() -> list[Case]:
    """Cases of the bundled checkpoints that are there, by name."""
    return [
        Case(family=read_json(folder / "config.json")["model_type"], name=folder.name, bundled=folder)
        for folder in bundled_folders()
    ]


def all_cases() -> list[Case]:
    """Every row of the page, in its order."""
    return [*bundled_cases(), *random_cases()]

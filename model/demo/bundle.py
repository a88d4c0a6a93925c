"""Write and replace the checkpoint folder: config, weights in bfloat16, and both forms of the tokenizer."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PersimmonConfig, PersimmonForCausalLM

from model.checkpoint.tokenizer_json import write_tokenizer_json
from model.demo.corpus import END_OF_DOCUMENT
from model.demo.tokenizer import SPECIAL_PIECES, VOCAB_SIZE, train_tokenizer

LARGEST_BUNDLE: Final = 8_000_000
"""Bytes the whole folder may have."""
CARD: Final = """---
license: apache-2.0
notice: >-
  This is a demonstration model of 3.2 million parameters. It knows a small made-up world (greetings, arithmetic to 20,
  the calendar, opposites, categories, capitals, tiny Python functions, sentiment) and nothing else; what it says about
  anything beyond is nonsense.
---

# persimmon-demo

A very small checkpoint of the Persimmon architecture for demonstrations and tests; see the README.md one folder up.
"""
"""README.md of the folder; the app shows its notice to every user."""

END_OF_DOCUMENT_ID: Final = 3 + SPECIAL_PIECES.index(END_OF_DOCUMENT)
"""After <unk>, <s> and </s>; ``tests/model/demo/test_bundle.py`` compares it with the vocabulary."""
MAX_POSITIONS: Final = 1024


def demo_config() -> PersimmonConfig:
    """Persimmon in small: every switch as in the 8B model, every default that differs passed explicitly.

    Rotary settings, squared ReLU and eps: config.json of adept/persimmon-8b-base; dropout is off on purpose (that
    file carries a stray hidden_dropout of 0.6).
    """
    return PersimmonConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        hidden_act="relu2",
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.02,
        layer_norm_eps=1e-5,
        use_cache=True,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        qk_layernorm=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=END_OF_DOCUMENT_ID,
        eos_token_id=END_OF_DOCUMENT_ID,
        pad_token_id=END_OF_DOCUMENT_ID,
    )


def write_tokenizer(folder: Path, seed: int) -> None:
    """Train the vocabulary and write ``tokenizer.model``, ``tokenizer.json`` and ``tokenizer_config.json``."""
    train_tokenizer(seed, folder / "tokenizer.model")
    write_tokenizer_json(folder / "tokenizer.model", folder / "tokenizer.json")
    _write_json(
        folder / "tokenizer_config.json",
        {
            # Adept's server adds no BOS; lm-eval needs an eos_token that is not null.
            "add_bos_token": False,
            "add_eos_token": False,
            "bos_token": END_OF_DOCUMENT,
            "eos_token": END_OF_DOCUMENT,
            "pad_token": END_OF_DOCUMENT,
            "clean_up_tokenization_spaces": False,
            "model_max_length": MAX_POSITIONS,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def write_weights(folder: Path, model: PersimmonForCausalLM) -> None:
    """Write ``config.json``, ``generation_config.json`` and ``model.safetensors`` in bfloat16."""
    copy = PersimmonForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16)
    copy.config.use_cache = True
    copy.generation_config.do_sample = False
    copy.generation_config.bos_token_id = END_OF_DOCUMENT_ID
    copy.generation_config.eos_token_id = END_OF_DOCUMENT_ID
    copy.generation_config.pad_token_id = END_OF_DOCUMENT_ID
    copy.save_pretrained(folder)


def write_bundle(destination: Path, *, tokenizer_folder: Path, model: PersimmonForCausalLM) -> int:
    """Write the whole folder beside ``destination`` and swap it in, so that nobody sees half of it.

    Returns:
        Size in bytes.

    Raises:
        ValueError: the folder would be larger than ``LARGEST_BUNDLE``.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_folder / name, fresh / name)
    write_weights(fresh, model)
    (fresh / "README.md").write_text(CARD, encoding="utf-8")
    fresh.chmod(0o755)
    for path in fresh.iterdir():
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in fresh.iterdir())
    if size > LARGEST_BUNDLE:
        shutil.rmtree(fresh)
        raise ValueError(
            f"the bundle has {size} bytes but at most {LARGEST_BUNDLE} are allowed: make the model smaller"
        )
    if destination.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{destination.name}-old-", dir=destination.parent))
        destination.rename(old / "previous")
        fresh.rename(destination)
        shutil.rmtree(old)
    else:
        fresh.rename(destination)
    return size


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

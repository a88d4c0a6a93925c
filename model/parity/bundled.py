"""The bundled checkpoints, which have trained weights and a tokenizer."""

from __future__ import annotations

from pathlib import Path

from model.checkpoint.config_json import read_json
from model.checkpoint.special_tokens import special_tokens
from model.families.registry import family_class
from model.interface import ChatMessage
from model.tokenizer import load_tokenizer

FOLDER = Path(__file__).resolve().parents[1] / "demo"
CONVERSATION = (
    ChatMessage("user", "Good morning! What is the capital of France?"),
    ChatMessage("assistant", "The capital of France is Paris."),
    ChatMessage("user", "What is 3 + 4?"),
)


def bundled_folders() -> list[Path]:
    """Folders `model/demo/*-demo` that hold a config.json, by name."""
    return sorted(path.parent for path in FOLDER.glob("*-demo/config.json"))


def bundled_prompt(folder: Path) -> list[int]:
    """Token ids of a short conversation in the checkpoint's own format.

    Raises:
        CheckpointError: config.json or the tokenizer cannot be used.
    """
    config = read_json(folder / "config.json")
    family = family_class(config)
    tokenizer = load_tokenizer(folder, special_tokens(folder, config))
    return tokenizer.encode_prompt(family.chat_template.render(CONVERSATION))

"""The beginning and the ends of a document, from a checkpoint's config files and its family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.families.registry import family_class
from model.tokenizer import SpecialTokens


def special_tokens(folder: Path, config: Mapping[str, Any]) -> SpecialTokens:
    """What `folder`'s config.json (already read: `config`) and generation_config.json say.

    Raises:
        CheckpointError: a token id is none, or the model type is not supported.
    """
    return SpecialTokens(
        bos_token_id=_token_id(config, "bos_token_id"),
        eos_token_ids=_eos_token_ids(folder, config),
        prompts_begin_with_bos=family_class(config).prompts_begin_with_bos,
    )


def _token_id(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise CheckpointError(f"config.json has {key}={value!r}: it must be a token id or null")
    return value


def _eos_token_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """End-of-document ids of both files, each once."""
    found: list[int] = []
    generation = folder / "generation_config.json"
    for values in (config, read_json(generation) if generation.is_file() else {}):
        value = values.get("eos_token_id")
        for token in value if isinstance(value, list) else [value]:
            token_id = _token_id({"eos_token_id": token}, "eos_token_id")
            if token_id is not None and token_id not in found:
                found.append(token_id)
    return tuple(found)

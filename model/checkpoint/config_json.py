"""Reading config.json with errors that name the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from model.checkpoint.errors import CheckpointError

Value = TypeVar("Value", int, float, str)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        CheckpointError: the file is missing, is not JSON or holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: a checkpoint folder needs it") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object: fetch it again")
    return content


def require(config: Mapping[str, Any], key: str, kind: type[Value]) -> Value:
    """config[key], a positive number or a string.

    Raises:
        CheckpointError: it is missing, of another type, or not positive.
    """
    if key not in config:
        raise CheckpointError(f"config.json has no {key}: fetch the checkpoint again or add it")
    value = config[key]
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or isinstance(value, bool) or (not isinstance(value, str) and value <= 0):
        wanted = "a string" if kind is str else f"a positive {'number' if kind is float else 'whole number'}"
        raise CheckpointError(f"config.json has {key}={value!r}: it must be {wanted}")
    return kind(value)


def require_flag(config: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """config[key] as true or false.

    Raises:
        CheckpointError: it is something else.
    """
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json has {key}={value!r}: it must be true or false")
    return value

"""Files of benchmarks that may be killed while they write: there whole or not at all, and refused in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from evals.errors import EvaluationError

_Report = TypeVar("_Report")


def write_whole(path: Path, text: str) -> Path:
    """Write `text`, in place of what was there; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
    return path


def write_json(path: Path, data: Mapping[str, Any]) -> Path:
    """The same of plain data, none of it infinite or not a number."""
    return write_whole(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, *, schema: int, build: Callable[[dict[str, Any]], _Report]) -> _Report:
    """What `build` makes of the data.

    Raises:
        EvaluationError: it is no report of this schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != schema:
            raise EvaluationError(
                f"{path.name} has schema {raw['schema']}, and {schema} is read: remove it and run again"
            )
        return build(raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path.name} cannot be read as a report ({error}): remove it and run again") from None

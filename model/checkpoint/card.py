"""What a checkpoint's README.md front matter says to its users: the licence, and a notice if it has one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from model.checkpoint.errors import CheckpointError

# adept-inference's README: base weights Apache-2.0, chat weights CC BY-NC 4.0.
KNOWN_LICENCES = {"adept/persimmon-8b-base": "apache-2.0", "adept/persimmon-8b-chat": "cc-by-nc-4.0"}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """`licence`: identifier as the card writes it; `notice`: a sentence every user must see. `None` if absent."""

    licence: str | None
    notice: str | None


def read_card(folder: Path, *, name: str) -> ModelCard:
    """The card of a checkpoint folder that the user called `name`.

    Raises:
        CheckpointError: the front matter is there but is no YAML mapping.
    """
    path = folder / "README.md"
    fields: object = {}
    if path.is_file():
        parts = path.read_text(encoding="utf-8").split("---\n", 2)
        if len(parts) == 3 and not parts[0].strip():
            try:
                fields = yaml.safe_load(parts[1])
            except yaml.YAMLError as error:
                raise CheckpointError(f"{path} has front matter that is no YAML: {error}") from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path} has front matter that is no mapping: write lines of key: value")
    licence = fields.get("license") or KNOWN_LICENCES.get(name)
    notice = fields.get("notice")
    return ModelCard(None if licence is None else str(licence), None if notice is None else str(notice))

"""Heads that were trained on the page: a folder for each base, by the hash of its weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from model.interface import Engine, EngineError, InvalidRequest

logger = logging.getLogger(__name__)

MAX_HEADS = 50
"""Of one model: they stay in memory and on the disk."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def attach_kept(engines: Iterable[Engine], root: Path) -> None:
    """Give every engine the heads that are kept for it; one that cannot be used is only told in the log."""
    for engine in engines:
        for file in sorted(_folder(engine, root).glob("*/head.json")):
            try:
                engine.attach_head(file.parent)
            except EngineError as error:
                logger.warning("the head %s is not used: %s", file.parent.name, error)


def new_folder(engine: Engine, root: Path, name: str) -> Path:
    """Where a new head of this name is to be written.

    Raises:
        InvalidRequest: the name is not allowed or taken, or there are too many heads.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"the name {name!r} is not allowed: use 1 to 40 letters, digits, - and _, a letter or digit first"
        )
    folder = _folder(engine, root) / name
    if name in engine.heads or folder.exists():
        raise InvalidRequest(f"{engine.info.model_name} has a head {name!r} already: choose another name")
    if len(engine.heads) >= MAX_HEADS:
        raise InvalidRequest(f"{engine.info.model_name} has {MAX_HEADS} heads already, which is the most: remove some")
    return folder


def _folder(engine: Engine, root: Path) -> Path:
    return root / engine.info.weights_sha256[:16]

"""Where a user's data belong."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_NAME = "persimmon-workbench"


def default_data_folder() -> Path:
    """`$XDG_DATA_HOME/persimmon-workbench`, by default below `~/.local/share` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_DATA_HOME", "")
    # The specification: a path that is not absolute is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / FOLDER_NAME

"""Put a finished checkpoint folder in the place of the shipped one, if it is small enough and complete."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from model.checkpoint.config_json import read_json
from model.demo.family import FAMILIES

LARGEST_BUNDLE: Final = 8_000_000
"""Bytes the whole folder may have."""


def install_bundle(fresh: Path, destination: Path) -> int:
    """Copy the family's files out of ``fresh`` and swap them in as ``destination``, so that nobody sees half of it.

    Args:
        fresh: A finished Hugging Face folder, weights in bfloat16; it stays as it is, other files in it are left out.
        destination: The folder to make or to replace.

    Returns:
        Size in bytes.

    Raises:
        ValueError: a file is missing, or the folder would be larger than ``LARGEST_BUNDLE``.
        CheckpointError: ``config.json`` is missing or no JSON.
    """
    model_type = read_json(fresh / "config.json").get("model_type")
    if model_type not in FAMILIES:
        raise ValueError(f"{fresh} has model_type={model_type!r}: bundled are only {', '.join(FAMILIES)}")
    files = FAMILIES[model_type].files
    missing = [name for name in files if not (fresh / name).is_file()]
    if missing:
        raise ValueError(f"{fresh} has no {', '.join(missing)}: write the whole checkpoint before installing it")
    size = sum((fresh / name).stat().st_size for name in files)
    if size > LARGEST_BUNDLE:
        raise ValueError(
            f"the bundle has {size} bytes but at most {LARGEST_BUNDLE} are allowed: make the model smaller or write "
            "its weights in bfloat16"
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}-", dir=destination.parent) as work:
        staged = Path(work) / "fresh"
        staged.mkdir(mode=0o755)
        staged.chmod(0o755)  # whatever the umask
        for name in files:
            shutil.copyfile(fresh / name, staged / name)
            (staged / name).chmod(0o644)
        if destination.exists():
            destination.rename(Path(work) / "previous")
        staged.rename(destination)
    return size

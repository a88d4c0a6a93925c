"""The working folder of a run: whose it is, and the last whole state in it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from model.checkpoint.fingerprint import file_sha256
from model.checkpoint.source import CheckpointSource
from model.finetune.documents import DataError
from model.finetune.settings import FinetuneSettings, SettingsError

STATE_PREFIX = f"{PREFIX_CHECKPOINT_DIR}-"  # before the number of steps
NOT_PART_OF_THE_RESULT = ("output", "device", "log_every", "save_every")
"""Settings that may differ when a stopped run goes on."""


def work_folder(output: Path) -> Path:
    """Where an unfinished run keeps its state."""
    return output.with_name(f"{output.name}.training")


def claim(work: Path, settings: FinetuneSettings, source: CheckpointSource, *, processes: int) -> None:
    """Make the working folder, or make sure that the one there belongs to this very run.

    Another run's folder is replaced if nothing was trained in it.

    Raises:
        DataError: a file of examples is missing.
        SettingsError: the folder belongs to another run, or is none of ours.
    """
    identity = json.loads(json.dumps(_identity(settings, source, processes), default=str))
    path = work / "settings.json"
    if path.is_file():
        before = identity_of(work)
        changed = sorted(key for key in identity.keys() | before.keys() if identity.get(key) != before.get(key))
        if not changed:
            return
        if _states(work):
            raise SettingsError(
                f"{work} holds an unfinished run with another {' and '.join(changed)}: remove that folder, or give the "
                "same settings to go on"
            )
        shutil.rmtree(work)
    elif work.exists() and (not work.is_dir() or any(work.iterdir())):
        raise SettingsError(f"{work} is there and is no unfinished run: choose another output, or remove it")
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")


def identity_of(work: Path) -> dict[str, Any]:
    """What :func:`claim` wrote down: the settings, and the hashes of the files as they were then."""
    identity: dict[str, Any] = json.loads((work / "settings.json").read_text(encoding="utf-8"))
    return identity


def last_state(work: Path, *, processes: int) -> Path | None:
    """The folder of the latest whole state, `None` if there is none."""
    whole = [state for state in _states(work) if _is_whole(state, processes)]
    return max(whole, key=step_of, default=None)


def remove_torn_states(work: Path, *, processes: int) -> None:
    """Delete the states in the middle of whose writing, or deletion, a run was killed."""
    for state in _states(work):
        if not _is_whole(state, processes):
            shutil.rmtree(state)


def step_of(state: Path) -> int:
    """Steps done when a state was saved."""
    return int(state.name.removeprefix(STATE_PREFIX))


def _identity(settings: FinetuneSettings, source: CheckpointSource, processes: int) -> dict[str, Any]:
    identity = {key: value for key, value in asdict(settings).items() if key not in NOT_PART_OF_THE_RESULT}
    identity["processes"] = processes
    for name, path in (("data", settings.data), ("validation", settings.validation)):
        if path is not None:
            if not path.is_file():
                raise DataError(f"{path} is not there: check the path")
            identity[f"{name}_sha256"] = file_sha256(path)
    if source.revision:
        identity["commit"] = source.revision
    return identity


def _states(work: Path) -> list[Path]:
    return [path for path in work.glob(f"{STATE_PREFIX}*") if path.name.removeprefix(STATE_PREFIX).isdecimal()]


def _is_whole(state: Path, processes: int) -> bool:
    """Whether the Trainer came to the end of writing: the main process writes its own state last, every process that of
    its random numbers."""
    random_states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    try:
        json.loads((state / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all((state / name).is_file() for name in ("optimizer.pt", "scheduler.pt", *random_states))

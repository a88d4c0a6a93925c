"""What a record says about the machine, the libraries and the code a run was made with. No host or user names."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.interface import EngineInfo, processor_name

if TYPE_CHECKING:
    from model.probes.loaded import LoadedModel

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("lm-eval", "datasets", "transformers", "tokenizers", "sentencepiece", "torch", "triton", "pandas")


def public_path(text: str) -> str:
    """A name for a file or folder that says nothing about the machine: from the repository's root, or its
    last part.

    What is no path here, such as a Hub id, stays as it is.
    """
    path = Path(text)
    if not path.exists():
        return text
    resolved = path.resolve()
    return resolved.relative_to(ROOT).as_posix() if resolved.is_relative_to(ROOT) else resolved.name


def model_identity(model: EngineInfo | LoadedModel) -> dict[str, Any]:
    """Which weights and tokenizer, from where."""
    return {
        "name": model.model_name,
        "source": public_path(model.source),
        "revision": model.revision,
        "family": model.family,
        "num_parameters": model.num_parameters,
        "weights_sha256": model.weights_sha256,
        "tokenizer_sha256": model.tokenizer_sha256,
        "licence": model.licence,
        "notice": model.notice,
    }


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, memory in GiB, and the GPU if `device` is one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "gpu": _gpu(device),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python, the system and the libraries a figure can depend on; `None` where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "system": platform.system()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def git_state() -> dict[str, Any]:
    """The commit checked out and whether the working tree differs from it; `None` where git does not say.

    `results/` is left out: an earlier run's files there change no answer of this one.
    """
    status = _git("status", "--porcelain", "--", ".", ":(exclude)results")
    return {"commit": _git("rev-parse", "--verify", "HEAD"), "dirty": None if status is None else bool(status)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _gpu(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(torch.device(device)))

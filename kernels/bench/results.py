"""What a run writes down. `results/kernels/bench.md` is rendered from this alone."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

SCHEMA = 1
DATA = "bench.json"
LIBRARIES = ("torch", "triton", "flash-attn")


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Another way to the same result; `seconds` is `None` where `problem` says why it was not timed."""

    name: str
    seconds: float | None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One case.

    Attributes:
        module, name: the file and the case.
        largest_difference: from the reference, in absolute terms.
        seconds, reference_seconds: medians; `None` where nothing was timed.
        num_bytes, num_flops: as the case states them.
        problem: why there is no figure, in words; `None` if all is well.
    """

    module: str
    name: str
    largest_difference: float | None = None
    seconds: float | None = None
    reference_seconds: float | None = None
    num_bytes: int = 0
    num_flops: int = 0
    peers: tuple[Peer, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A whole run on one device; `copy_bytes_per_s` is `None` where results were compared alone."""

    schema: int
    device: Mapping[str, Any]
    versions: Mapping[str, str]
    dtype: str
    copy_bytes_per_s: float | None
    rows: tuple[Row, ...]

    @property
    def problems(self) -> list[str]:
        """A sentence for each case that was refused or failed, and each that was not reached."""
        return [f"{row.name}: {row.problem}" for row in self.rows if row.problem]


def describe(device: torch.device) -> dict[str, Any]:
    """The GPU's name, memory, multiprocessors and second-level cache."""
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory_gib": round(found.total_memory / 2**30, 1),
        "multiprocessors": found.multi_processor_count,
        "l2_cache_mib": round(found.L2_cache_size / 2**20, 1),
        "capability": f"{found.major}.{found.minor}",
    }


def versions() -> dict[str, str]:
    """Of what a figure depends on; a library that is not installed is left out."""
    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(report: Report, folder: Path) -> Path:
    """Write the report into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DATA
    path.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Report:
    """Read a report back.

    Raises:
        ValueError: it is of another schema.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise ValueError(
            f"{path.name} has schema {found.get('schema')}, and {SCHEMA} is read: run python -m kernels.bench again"
        )
    rows = tuple(Row(**{**row, "peers": tuple(Peer(**peer) for peer in row["peers"])}) for row in found["rows"])
    return Report(**{**found, "rows": rows})

"""What a run writes down. `results/bench/engine.md` is rendered from this alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from evals.provenance import hardware
from evals.whole_files import read_json, write_json

SCHEMA = 1
DATA = "engine.json"
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("kernels", "model", "evals/bench_engine")
LIBRARIES = ("torch", "triton", "transformers", "flash-attn", "numpy")

Status = Literal["measured", "in part", "failed", "refused", "absent", "not reached"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: what, such as `step`; batch, context: answers at once and their tokens, where it depends on them.
        value, unit: `None` where `problem` says why there is no figure.
        roof: the best value there can be, in the same unit, from rates measured in the same run.
        more: whatever else belongs to it.
    """

    name: str
    value: float | None
    unit: str
    batch: int | None = None
    context: int | None = None
    roof: float | None = None
    problem: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """What one section brought.

    Attributes:
        status: `refused`: the gate before it failed; `absent`: it cannot run here; `not reached`: there was no time.
        reason: a sentence, unless it was measured.
        seconds: it took.
    """

    name: str
    status: Status
    reason: str | None = None
    seconds: float | None = None
    figures: tuple[Figure, ...] = ()

    def figure(self, name: str, *, batch: int | None = None, context: int | None = None) -> Figure | None:
        """The one of this name, batch and context; `None` if there is none, or it has no value."""
        wanted = (name, batch, context)
        return next(
            (one for one in self.figures if (one.name, one.batch, one.context) == wanted and one.value is not None),
            None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All sections of one machine, one size and one state of the sources.

    Attributes:
        machine: GPU, processor, memory. versions: of what a figure depends on. sources: a hash over our own files.
    """

    schema: int
    size: str
    dtype: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    sources: str
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section:
        """The one of this name; one that was never begun is `not reached`."""
        found = next((one for one in self.sections if one.name == name), None)
        return found or Section(name=name, status="not reached", reason="not measured yet")

    def with_section(self, section: Section) -> Report:
        """The same with this section in place of the one of its name."""
        others = tuple(one for one in self.sections if one.name != section.name)
        return replace(self, sections=(*others, section))

    def same_setting(self, other: Report) -> bool:
        """Whether figures of both may stand on one page."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("schema", "size", "dtype", "machine", "versions", "sources")
        )


def machine_of(device: str) -> dict[str, Any]:
    """Processor, memory and GPU, the latter in more detail."""
    found = hardware(device)
    if device.startswith("cuda"):
        import torch

        card = torch.cuda.get_device_properties(torch.device(device))
        found["gpu_memory_gib"] = round(card.total_memory / 2**30, 1)
        found["gpu_multiprocessors"] = card.multi_processor_count
    return found


def versions() -> dict[str, str]:
    """Of what a figure depends on; a library that is not installed is left out."""
    import platform

    import torch

    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def sources_hash(root: Path = ROOT) -> str:
    """Over the names and bytes of our Python files that a figure depends on."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def write_report(report: Report, folder: Path) -> Path:
    """Write it whole or not at all: the process may be killed at any time."""
    return write_json(folder / DATA, asdict(report))


def read_report(path: Path) -> Report:
    """The report in a file.

    Raises:
        EvaluationError: it is no report of this schema.
    """

    def build(raw: dict[str, Any]) -> Report:
        return Report(**{**raw, "sections": tuple(section_from_json(one) for one in raw["sections"])})

    return read_json(path, schema=SCHEMA, build=build)


def section_from_json(raw: Mapping[str, Any]) -> Section:
    """Back from `asdict`."""
    return Section(**{**raw, "figures": tuple(Figure(**one) for one in raw["figures"])})


def as_json(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Figures as plain data."""
    return [asdict(one) for one in figures]

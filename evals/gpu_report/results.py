"""What a report writes down beside the benchmarks' own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evals.whole_files import read_json, write_json

SCHEMA = 1
DATA = "gpu.json"

Status = Literal["done", "in part", "failed", "absent", "not reached"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What became of one part.

    Attributes:
        status: `in part`: it ended, or was ended, with something missing. reason: a sentence, unless it is done.
        found: what was read from its output, such as numbers of tests. log: the end of its output, unless it is done.
    """

    name: str
    status: Status
    reason: str | None = None
    seconds: float | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuReport:
    """All parts on one machine, with one state of the sources; see `evals.bench_engine.results.Report`."""

    schema: int
    size: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    sources: str
    parts: tuple[Part, ...]

    def part(self, name: str) -> Part:
        """The one of this name; one that was never begun is `not reached`."""
        found = next((one for one in self.parts if one.name == name), None)
        return found or Part(name=name, status="not reached", reason="not run yet")

    def with_part(self, part: Part) -> GpuReport:
        """The same with this part in place of the one of its name."""
        return replace(self, parts=(*(one for one in self.parts if one.name != part.name), part))

    def same_setting(self, other: GpuReport) -> bool:
        """Whether parts of both may stand on one page."""
        names = ("schema", "size", "machine", "versions", "sources")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def write_report(report: GpuReport, folder: Path) -> Path:
    """Write it whole or not at all: the process may be killed at any time."""
    return write_json(folder / DATA, asdict(report))


def read_report(path: Path) -> GpuReport:
    """The report in a file.

    Raises:
        EvaluationError: it is no report of this schema.
    """

    def build(raw: dict[str, Any]) -> GpuReport:
        parts = tuple(Part(**{**one, "log": tuple(one["log"])}) for one in raw["parts"])
        return GpuReport(**{**raw, "parts": parts})

    return read_json(path, schema=SCHEMA, build=build)

"""`results/bench/gpu.md`: one page of what one GPU gave, from the files that were written alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.bench_engine.bars import bars, gate_lines
from evals.bench_engine.page import bars_table, table
from evals.bench_engine.results import DATA as ENGINE_DATA
from evals.bench_engine.results import Report
from evals.bench_engine.results import read_report as read_engine
from evals.errors import EvaluationError
from evals.gpu_report.parts import ENGINE, GATE, KERNELS, SANITIZER, TESTS
from evals.gpu_report.results import GpuReport, Part
from evals.whole_files import write_whole

PAGE = "gpu.md"
KERNELS_DATA = "bench.json"
TITLES = {
    TESTS: "The kernels' tests, compiled",
    GATE: "The engine's gate",
    KERNELS: "The kernels' benchmark",
    ENGINE: "The engine's benchmark",
    SANITIZER: "compute-sanitizer on the kernels' tests",
}
TITLE = """# What one GPU gave

Written by `make gpu-report` (`python -m evals.gpu_report`); change nothing here by hand. [engine.md](engine.md) and
[../kernels/bench.md](../kernels/bench.md) have the rest.
"""


def render(report: GpuReport, engine: Report | None, kernels: Mapping[str, Any] | None) -> str:
    """The page.

    Args:
        engine, kernels: what the benchmarks wrote; `None` if they have not.
    """
    machine = report.machine
    card = f"{machine.get('gpu') or 'no GPU'}"
    if machine.get("gpu_memory_gib"):
        card += f", {machine['gpu_memory_gib']} GiB, {machine.get('gpu_multiprocessors')} multiprocessors"
    libraries = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    parts = [TITLE, f"**Machine** {card}; {machine.get('processor')}, {machine.get('cores')} cores. {libraries}.\n"]
    if report.size != "full":
        parts.append("**Small shapes: this shows that everything runs and measures nothing.**\n")
    rows = [
        [title, one.status, "" if one.seconds is None else f"{one.seconds:.0f}", _summary(one)]
        for name, title in TITLES.items()
        for one in (report.part(name),)
    ]
    parts.append("## Parts\n\n" + table(["part", "status", "seconds", "what came of it"], rows))
    if engine is not None:
        parts.append("## Bars\n\n" + bars_table(bars(engine), judged=engine.size == "full"))
        parts.append("## Gate\n\n" + "\n".join(f"- {line}." for line in gate_lines(engine)) + "\n")
    parts += [_tests(report.part(TESTS)), _kernels(kernels), _logs(report)]
    return "\n".join(part for part in parts if part)


def write_page(report: GpuReport, output: Path) -> Path:
    """Render and write the page into `output`/bench, from that folder's files and `output`/kernels'."""
    folder = output / "bench"
    try:
        engine: Report | None = read_engine(folder / ENGINE_DATA)
    except EvaluationError:
        engine = None
    return write_whole(folder / PAGE, render(report, engine, read_kernels(output / "kernels" / KERNELS_DATA)))


def kernels_table(kernels: Mapping[str, Any]) -> str:
    """Every case that was timed."""
    copy = kernels.get("copy_bytes_per_s")
    rows = []
    for row in kernels["rows"]:
        if row["seconds"] is None:
            continue
        speed = row["num_bytes"] / row["seconds"]
        reference = row["reference_seconds"]
        rows.append(
            [
                row["name"],
                f"{1e6 * row['seconds']:,.1f}",
                f"{speed / copy:.0%}" if copy else "",
                f"{reference / row['seconds']:.2f}" if reference else "",
                "; ".join(
                    f"{peer['name']} {peer['seconds'] / row['seconds']:.2f}" for peer in row["peers"] if peer["seconds"]
                ),
            ]
        )
    return (
        table(["kernel", "µs", "of the copy's speed", "times the reference", "times the peers"], rows) if rows else ""
    )


def _summary(part: Part) -> str:
    said = []
    if "passed" in part.found:
        said.append(
            f"{part.found['passed']} passed, {len(part.found['failed'])} failed, {part.found['skipped']} skipped"
        )
    if part.found.get("errors") is not None:
        said.append(f"{part.found['errors']} errors")
    if part.reason:
        said.append(part.reason)
    return "; ".join(said)


def _tests(part: Part) -> str:
    failed = part.found.get("failed")
    if not failed:
        return ""
    return "## Tests that failed\n\n" + "\n".join(f"- `{name}`: {why}" for name, why in failed.items()) + "\n"


def _kernels(kernels: Mapping[str, Any] | None) -> str:
    if kernels is None:
        return "## Kernels\n\nNo kernel has been timed on a GPU yet.\n"
    problems = [f"- {row['name']}: {row['problem']}" for row in kernels["rows"] if row["problem"]]
    without = "\nWithout a figure:\n\n" + "\n".join(problems) + "\n" if problems else ""
    return "## Kernels\n\n" + kernels_table(kernels) + without


def _logs(report: GpuReport) -> str:
    parts = []
    for name, title in TITLES.items():
        one = report.part(name)
        if one.log:
            text = "\n".join(line.replace("```", "` ` `") for line in one.log)
            parts.append(f"### {title}: the end of its output\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def read_kernels(path: Path) -> Mapping[str, Any] | None:
    """`kernels.bench`'s report as plain data: importing its reader would import Triton's kernels."""
    if not path.is_file():
        return None
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found

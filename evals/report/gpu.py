"""What was measured on a GPU, as a section of the results: bars, kernels and pictures; or that nothing was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.bench_engine.bars import bars
from evals.bench_engine.page import bars_table
from evals.bench_engine.page import render as render_engine
from evals.bench_engine.plots import plots
from evals.bench_engine.results import DATA, Report, read_report
from evals.gpu_report.page import kernels_table, read_kernels
from evals.report.blocks import Block, Heading, Plots, Text

NOTHING_OF_THE_ENGINE = (
    "Nothing of the engine has been measured on a GPU yet: `make gpu-report` does it in one command, and until then no "
    "figure is given."
)
NO_KERNELS = (
    "No kernel has been timed on a GPU yet. That all of them compile for one is in "
    "[kernels/compile.md](kernels/compile.md)."
)


@dataclass(frozen=True, slots=True)
class GpuResults:
    """What the benchmarks wrote; `None` if they have not. kernels: plain data, as `kernels.bench` writes it."""

    engine: Report | None
    kernels: Mapping[str, Any] | None


def read_gpu(output: Path) -> GpuResults:
    """From `output`/bench and `output`/kernels.

    Raises:
        EvaluationError: a file is there and cannot be read.
    """
    path = output / "bench" / DATA
    return GpuResults(
        engine=read_report(path) if path.is_file() else None,
        kernels=read_kernels(output / "kernels" / "bench.json"),
    )


def gpu_blocks(found: GpuResults) -> list[Block]:
    """The section."""
    blocks: list[Block] = [Heading(2, "On a GPU")]
    if found.engine is None:
        blocks.append(Text(NOTHING_OF_THE_ENGINE))
    else:
        report = found.engine
        libraries = ", ".join(f"{name} {version}" for name, version in report.versions.items())
        pictures = plots(report)
        links = ", ".join(f"[{name}](bench/{name})" for name in pictures)
        text = (
            f"The engine on one {report.machine.get('gpu') or 'machine without a GPU'}, {report.dtype}, {libraries}. "
        )
        text += "[bench/engine.md](bench/engine.md) has all of it" + (f"; pictures: {links}." if links else ".")
        blocks += [Text(text), Text(bars_table(bars(report), judged=report.size == "full").strip())]
        if pictures:
            drawn = "\n".join(f'<figure class="picture">\n{svg.strip()}\n</figure>' for svg in pictures.values())
            blocks.append(Plots(drawn))
    if found.kernels is None:
        blocks.append(Text(NO_KERNELS))
    else:
        name = found.kernels["device"]["name"]
        blocks += [
            Text(f"Our kernels on one {name}; [kernels/bench.md](kernels/bench.md) says how they were timed."),
            Text(kernels_table(found.kernels).strip()),
        ]
    return blocks


def gpu_files(found: GpuResults) -> dict[str, str]:
    """The engine's own page and pictures, by name in `results/`; none where nothing was measured."""
    if found.engine is None:
        return {}
    files = {f"bench/{name}": text for name, text in plots(found.engine).items()}
    return files | {"bench/engine.md": render_engine(found.engine)}

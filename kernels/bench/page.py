"""`results/kernels/bench.md`, rendered from the report alone: the same report gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from kernels.bench.results import Report, Row

PAGE = "bench.md"

TITLE = """# Kernels on a GPU

Written by `python -m kernels.bench` from `bench.json`; change nothing here by hand.
"""

METHOD = """## Method

- **Gate** before any time is taken, a kernel's results are compared with its reference's on the same tensors, within
  the bounds its case states; a second call must give the same bits. Otherwise it is refused and has no figure.
- **Time** the median of 10 to 200 calls, each between two CUDA events and behind a write of 512 MiB, which fills the
  second-level cache with something else and takes longer than launching the call.
- **GB/s** the bytes a case must move at least, read and written, over that time. *Share* is theirs of the copy measured
  in the same run (1 GiB read and 1 GiB written). A kernel whose work is arithmetic has its TFLOP/s beside it.
- **Times** how many times faster the kernel is than the reference in plain torch, and than each peer, whose result has
  passed the same comparison.
"""


def render(report: Report) -> str:
    """The page of one report."""
    device = report.device
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    head = (
        f"**Device** {device['name']}, {device['memory_gib']} GiB, {device['multiprocessors']} multiprocessors, "
        f"compute capability {device['capability']}. {versions}. **Tensors** {report.dtype}.\n"
    )
    if report.copy_bytes_per_s is not None:
        head += f"A copy moved {report.copy_bytes_per_s / 1e9:,.0f} GB/s.\n"
    parts = [TITLE, head]
    if report.problems:
        parts.append("## Without a figure\n\n" + "\n".join(f"- {problem}" for problem in report.problems) + "\n")
    for module, rows in groupby(report.rows, key=lambda row: row.module):
        measured = [row for row in rows if row.seconds is not None]
        if measured:
            parts.append(f"## {module}\n\n{_table(measured, report.copy_bytes_per_s)}")
    parts.append(METHOD)
    return "\n".join(parts)


def write_page(report: Report, folder: Path) -> Path:
    """Render and write the page."""
    path = folder / PAGE
    path.write_text(render(report), encoding="utf-8")
    return path


def _table(rows: Sequence[Row], copy_bytes_per_s: float | None) -> str:
    heads = ["case", "µs", "GB/s", "share", "TFLOP/s", "times the reference", "times the peers", "largest difference"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for row in rows:
        assert row.seconds is not None
        speed = row.num_bytes / row.seconds
        cells = [
            row.name,
            f"{1e6 * row.seconds:,.1f}",
            f"{speed / 1e9:,.0f}",
            f"{speed / copy_bytes_per_s:.0%}" if copy_bytes_per_s else "",
            f"{row.num_flops / row.seconds / 1e12:,.1f}" if row.num_flops else "",
            f"{row.reference_seconds / row.seconds:.2f}" if row.reference_seconds else "",
            "; ".join(
                f"{peer.name} {peer.seconds / row.seconds:.2f}" if peer.seconds else f"{peer.name}: {peer.problem}"
                for peer in row.peers
            ),
            "" if row.largest_difference is None else f"{row.largest_difference:.2g}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"

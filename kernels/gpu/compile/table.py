"""`results/kernels/compile.json` and the page made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from kernels.gpu.compile.ahead_of_time import Compiled

DATA, PAGE = "compile.json", "compile.md"
WIDTHS = (16, 8, 4, 2, 1)

TITLE = """# Kernels, compiled ahead of time

Written by `make compile-kernels` (`python -m kernels.gpu.compile`), which needs no GPU; change nothing here by hand.
Registers and shared memory are what a kernel is given; how fast it is, this page does not say. Two numbers with a
stroke between them are those of two architectures. *Loads* counts the load instructions from global memory in the
machine code by their width in bytes, one in a loop once. A kernel fails if it spills, if it asks for more shared memory
than a block may have, or if 16-byte loads are demanded and bring less than half of the bytes (tables of integers not
counted).
"""


def as_json(compiled: Sequence[Compiled], versions: Mapping[str, str]) -> dict[str, Any]:
    """What is written down; times are not, so that the same kernels give the same file."""
    cases = [{key: value for key, value in asdict(one).items() if key != "seconds"} for one in compiled]
    return {"schema": 1, "versions": dict(versions), "cases": cases}


def write(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write both files into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / DATA, folder / PAGE
    data.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    page.write_text(render(json.loads(data.read_text(encoding="utf-8"))), encoding="utf-8")
    return [data, page]


def render(report: Mapping[str, Any]) -> str:
    """The page, from what was read back from the file."""
    cases = report["cases"]
    bad = sum(bool(one["problems"]) for one in cases)
    archs = ", ".join(f"sm_{arch}" for arch in sorted({one["arch"] for one in cases}))
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    parts = [TITLE, f"{len(cases)} compilations for {archs} with {versions}: **{bad} fail**.\n"]
    for module, of_module in groupby(cases, key=lambda one: str(one["module"])):
        parts.append(f"## {module}\n\n{_table(list(of_module))}")
    return "\n".join(parts)


def _table(cases: Sequence[Mapping[str, Any]]) -> str:
    heads = ["case", "kernel", "warps", "stages", "registers", "shared, bytes", "spilled, bytes", "loads", ""]
    rows = []
    for name in dict.fromkeys(one["name"] for one in cases):
        same = sorted((one for one in cases if one["name"] == name), key=lambda one: one["arch"])
        problems = [f"sm_{one['arch']} {problem}" for one in same for problem in one["problems"]]
        codes = [one["code"] or {} for one in same]
        rows.append(
            [
                name,
                f"`{same[0]['kernel']}`",
                str(same[0]["num_warps"]),
                str(same[0]["num_stages"]),
                _both(code.get("registers", "") for code in codes),
                _both(one["shared_bytes"] for one in same),
                _both(code.get("stack_bytes", "") for code in codes),
                _both(_loads(code.get("loads", {})) for code in codes),
                "; ".join(problems) or "ok",
            ]
        )
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _both(values: Iterable[object]) -> str:
    """One value if all are the same."""
    texts = [str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def _loads(loads: Mapping[str, int]) -> str:
    """As "4 x 16, 1 x 8"; JSON has turned the widths into text."""
    return ", ".join(f"{loads[str(width)]} × {width}" for width in WIDTHS if str(width) in loads) or "none"

"""Check and time all kernels on a GPU; exit 1 if one is refused, fails or is not reached, or if there is no GPU.

python -m kernels.bench                          all cases, into results/kernels
python -m kernels.bench --module gemv            one module's, shown and not written
python -m kernels.bench --check                  compares results and times nothing
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RESULTS = Path(__file__).resolve().parents[2] / "results" / "kernels"
DTYPES = ("bfloat16", "float16")
FIRST = ("sparse_down_cases", "paged_attention_cases", "gemv")
"""Modules whose cases come first, so that a short time is spent on what decides most."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m kernels.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--module", nargs="+", default=[], metavar="NAME", help="only these modules of kernels.gpu")
    parser.add_argument("--dtype", default=DTYPES[0], choices=DTYPES)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--check", action="store_true", help="compare results with the references', time nothing")
    parser.add_argument("--seconds", type=float, help="begin no case after these")
    parser.add_argument("--output", type=Path, help="default: results/kernels, where all cases are timed in bfloat16")
    options = parser.parse_args(arguments)
    if options.output is None and not options.module and not options.check and options.dtype == DTYPES[0]:
        options.output = RESULTS
    return options


def with_index(name: str) -> torch.device:
    """`cuda` or `cuda:N` as a device that says which GPU it is, as torch wants the one to be made the current."""
    import torch

    return torch.device("cuda", torch.device(name).index or 0)


def main(arguments: list[str] | None = None) -> int:
    """0 if every case has its figure, else 1 after a sentence for each that has none on stderr."""
    options = parse(arguments)
    import torch

    if not torch.cuda.is_available():
        print("kernels.bench: there is no CUDA GPU here, and kernels are timed on one alone", file=sys.stderr)
        return 1
    from kernels.bench import page, results, session
    from kernels.bench.clock import Clock
    from kernels.gpu.modules import modules_with

    modules = modules_with("bench_cases")
    if unknown := sorted(set(options.module) - set(modules)):
        print(f"kernels.bench: no such module: {', '.join(unknown)}; there are {', '.join(modules)}", file=sys.stderr)
        return 1
    device, dtype = with_index(options.device), getattr(torch, options.dtype)
    torch.cuda.set_device(device)
    ordered = sorted(modules, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    cases = {name: modules[name].bench_cases() for name in ordered if not options.module or name in options.module}
    clock = None if options.check else Clock(device)
    report = results.Report(
        schema=results.SCHEMA,
        device=results.describe(device),
        versions=results.versions(),
        dtype=options.dtype,
        copy_bytes_per_s=None if clock is None else clock.copy_bytes_per_s(),
        rows=(),
    )
    for row in session.run(cases, device, dtype, clock=clock, seconds=options.seconds):
        time = (
            "" if row.seconds is None else f"{1e6 * row.seconds:10.1f} µs {row.num_bytes / row.seconds / 1e9:6.0f} GB/s"
        )
        print(f"{row.name}: {row.problem or time or 'as its reference'}", flush=True)
        report = replace(report, rows=(*report.rows, row))
        if options.output is not None:  # after every case: whoever runs this may end it at any time
            results.write(report, options.output)
    if options.output is not None:
        print(results.write(report, options.output))
        print(page.write_page(report, options.output))
    for problem in report.problems:
        print(f"kernels.bench: {problem}", file=sys.stderr)
    return 1 if report.problems or not report.rows else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure our engine on one device, against its floors and against Hugging Face on the same weights.

python -m evals.bench_engine                            all sections, into results/bench
python -m evals.bench_engine --minutes 6                what fits into six minutes; the same again goes on with the rest
python -m evals.bench_engine --only gate sparse         some sections, and what they need
python -m evals.bench_engine --device cpu --size tiny   small shapes: shows that it runs, into build/bench_engine

Exit status: 0 if nothing failed, else 1. What cannot run here is absent, what there was no time for is not reached.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from evals import environment
from evals.bench_engine.parent import Run
from evals.bench_engine.results import DATA, SCHEMA, Report, machine_of, read_report, sources_hash, versions
from evals.bench_engine.sections import NAMES, choose
from evals.bench_engine.sizes import SIZES
from evals.errors import EvaluationError

ROOT = Path(__file__).resolve().parents[2]
RESULTS, BUILD = ROOT / "results" / "bench", ROOT / "build" / "bench_engine"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.bench_engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--size", default="full", choices=SIZES, help="full (default), or tiny, which measures nothing")
    parser.add_argument("--dtype", help="bfloat16 or float16 (default: bfloat16, on a CPU float32)")
    parser.add_argument("--kernels", default="auto", help="auto, triton or reference")
    parser.add_argument("--minutes", type=float, help="begin nothing that does not fit (default: no limit)")
    parser.add_argument("--only", nargs="+", default=[], metavar="SECTION", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--fresh", action="store_true", help="measure again what the output has already")
    parser.add_argument("--output", type=Path, help="default: results/bench, with --size tiny build/bench_engine")
    options = parser.parse_args(arguments)
    options.output = options.output or (RESULTS if options.size == "full" else BUILD)
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    if options.size != "full" and options.output.resolve().is_relative_to(ROOT / "results"):
        parser.error("--size tiny measures nothing: it does not write into results")
    if options.minutes is not None and options.minutes <= 0:
        parser.error(f"--minutes {options.minutes} is not allowed: it must be more than 0")
    return options


def main(arguments: list[str] | None = None) -> int:
    """0 if nothing failed, else 1 after a sentence for each section that did."""
    began = time.monotonic()
    options = parse(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("evals.bench_engine").setLevel(logging.INFO)
    environment.prepare(offline=True)
    try:
        plans = choose(options.only)
        report = new_report(options.device, options.size, options.dtype)
    except EvaluationError as error:
        print(f"bench_engine: {error}", file=sys.stderr)
        return 1
    if not options.fresh:
        report = continued(report, options.output / DATA)
    from evals.bench_engine.page import write_page

    run = Run(
        report=report,
        folder=options.output,
        device=options.device,
        kernels=options.kernels,
        deadline=None if options.minutes is None else began + 60 * options.minutes,
    )
    try:
        report = run.measure(plans)
    except KeyboardInterrupt:
        print("bench_engine: stopped; what was measured is kept, and the same command goes on", file=sys.stderr)
        return 130  # as a shell reports SIGINT
    finally:
        print(write_page(run.report, options.output))
    failed = [one for one in report.sections if one.status in ("failed", "refused", "in part")]
    for section in failed:
        print(f"bench_engine: {section.name}: {section.status}, {section.reason}", file=sys.stderr)
    return 1 if failed else 0


def new_report(device: str, size: str, dtype: str) -> Report:
    """A report of this machine without sections.

    Raises:
        EvaluationError: the device is not here, or the dtype is not allowed.
    """
    from model.interface import InvalidRequest
    from model.open_engine import choose_device, choose_dtype

    try:
        choose_dtype(dtype, choose_device(device))
    except InvalidRequest as error:
        raise EvaluationError(str(error)) from None
    return Report(
        schema=SCHEMA,
        size=size,
        dtype=dtype,
        machine=machine_of(device),
        versions=versions(),
        sources=sources_hash(),
        sections=(),
    )


def continued(report: Report, path: Path) -> Report:
    """What an earlier run of the same setting left; else `report`, since figures of two settings never stand on one
    page."""
    if not path.is_file():
        return report
    try:
        earlier = read_report(path)
    except EvaluationError as error:
        logging.getLogger("evals.bench_engine").warning("%s; it is begun anew", error)
        return report
    if not earlier.same_setting(report):
        logging.getLogger("evals.bench_engine").warning("%s is of another setting: it is begun anew", path.name)
        return report
    return earlier


if __name__ == "__main__":
    sys.exit(main())

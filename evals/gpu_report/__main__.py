"""Check and measure everything that needs a GPU, in one command on one machine, within nine minutes.

python -m evals.gpu_report                            all parts, into results/
python -m evals.gpu_report                            again: goes on with what is missing
python -m evals.gpu_report --parts kernels engine     some parts
python -m evals.gpu_report --output $OUT              into another folder; results/'s own are gone on with
python -m evals.gpu_report --device cpu --size tiny   shows that it runs, into build/gpu_report

Exit status: 0 if every part is done or absent, else 1; what was found is on the page in any case.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from pathlib import Path

from evals import environment
from evals.bench_engine.results import machine_of, sources_hash, versions
from evals.bench_engine.sizes import SIZES
from evals.errors import EvaluationError
from evals.gpu_report.page import write_page
from evals.gpu_report.parts import ENGINE, GATE, KERNELS, SANITIZER, TESTS, Setting, works
from evals.gpu_report.results import DATA, SCHEMA, GpuReport, read_report
from evals.gpu_report.run import run_parts

ROOT = Path(__file__).resolve().parents[2]
RESULTS, BUILD = ROOT / "results", ROOT / "build" / "gpu_report"
PARTS = {"tests": TESTS, "gate": GATE, "kernels": KERNELS, "engine": ENGINE, "sanitizer": SANITIZER}
PAGES_S = 8.0  # kept back for the pages
CARRIED = ("bench/gpu.json", "bench/engine.json", "kernels/bench.json")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.gpu_report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--size", default="full", choices=SIZES, help="full (default), or tiny, which measures nothing")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it (default: 9)")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="default: all")
    parser.add_argument("--fresh", action="store_true", help="do again what is done")
    parser.add_argument("--output", type=Path, help="default: results, with --size tiny build/gpu_report")
    options = parser.parse_args(arguments)
    options.output = (options.output or (RESULTS if options.size == "full" else BUILD)).absolute()
    if options.size != "full" and options.output.resolve().is_relative_to(RESULTS):
        parser.error("--size tiny measures nothing: it does not write into results")
    if options.minutes <= 0:
        parser.error(f"--minutes {options.minutes} is not allowed: it must be more than 0")
    return options


def main(arguments: list[str] | None = None) -> int:
    """0 if every part is done or absent, else 1 after a sentence for each that is not."""
    began = time.monotonic()
    options = parse(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("evals.gpu_report").setLevel(logging.INFO)
    environment.prepare(offline=True)
    setting = Setting(device=options.device, size=options.size, output=options.output)
    try:
        report = new_report(setting)
    except EvaluationError as error:
        print(f"gpu_report: {error}", file=sys.stderr)
        return 1
    if not options.fresh:
        carry_over(RESULTS, options.output)
        report = continued(report, options.output / "bench" / DATA)
    chosen = {PARTS[name] for name in options.parts}
    todo = [work for work in works(setting) if work.name in chosen]
    folder = options.output / "bench"
    report = run_parts(
        report,
        todo,
        folder=folder,
        deadline=began + 60 * options.minutes - PAGES_S,
        saved=lambda report: write_page(report, options.output),
    )
    print(write_page(report, options.output))
    missing = [one for one in (report.part(work.name) for work in todo) if one.status not in ("done", "absent")]
    for part in missing:
        print(f"gpu_report: {part.name}: {part.status}, {part.reason}", file=sys.stderr)
    return 1 if missing else 0


def new_report(setting: Setting) -> GpuReport:
    """A report of this machine without parts.

    Raises:
        EvaluationError: the device is not here.
    """
    from model.interface import InvalidRequest
    from model.open_engine import choose_device

    try:
        choose_device(setting.device)
    except InvalidRequest as error:
        raise EvaluationError(str(error)) from None
    return GpuReport(
        schema=SCHEMA,
        size=setting.size,
        machine=machine_of(setting.device),
        versions=versions(),
        sources=sources_hash(),
        parts=(),
    )


def continued(report: GpuReport, path: Path) -> GpuReport:
    """What an earlier run of the same setting left; else `report`."""
    if not path.is_file():
        return report
    try:
        earlier = read_report(path)
    except EvaluationError as error:
        logging.getLogger("evals.gpu_report").warning("%s; it is begun anew", error)
        return report
    return earlier if earlier.same_setting(report) else report


def carry_over(source: Path, output: Path) -> None:
    """Copy what an earlier run left in `source` to where this one writes, so that it goes on there."""
    for name in CARRIED:
        if (source / name).is_file() and not (output / name).exists():
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, output / name)


if __name__ == "__main__":
    sys.exit(main())

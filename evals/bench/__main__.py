"""Measure our engine beside Hugging Face and lm-eval on this CPU; exit 1 if a measurement is refused.

python -m evals.bench                        all measurements, into results/bench
python -m evals.bench --only arc decode-1    some of them; the page keeps the others
python -m evals.bench --quick                tiny sizes, into build/bench
python -m evals.bench --vllm-python PYTHON   vLLM's CPU build too, where that Python has it
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

from evals import environment
from evals.errors import EvaluationError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "bench"
BUILD = ROOT / "build" / "bench"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names, or checkpoint/name")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--threads", type=int, help="torch's threads on both sides (default: the cores)")
    parser.add_argument("--rounds", type=int, help="timed runs of each side (default: 3, with --quick 1)")
    parser.add_argument("--data", default="demo", help="demo, or a folder of JSONL files (default: demo)")
    parser.add_argument("--output", type=Path, help="default: results/bench, with --quick build/bench")
    parser.add_argument(
        "--cache", type=Path, default=BUILD / "checkpoints", help="of the random checkpoints, and of what vLLM compiles"
    )
    parser.add_argument(
        "--vllm-python", type=Path, metavar="PYTHON", help="of an environment with vLLM's CPU build, a second peer"
    )
    options = parser.parse_args(arguments)
    options.output = options.output or (BUILD if options.quick else RESULTS)
    if options.quick and options.output.resolve().is_relative_to(ROOT / "results"):
        parser.error("--quick measures nothing: it does not write into results")
    for name in ("threads", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value} is not allowed: it must be at least 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """0 if every measurement was made, else 1 after one sentence on stderr."""
    options = parse(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("evals.bench").setLevel(logging.INFO)
    # Before the libraries that read them at import, here and in every process started from here.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # as both sides have it when nobody says otherwise
    environment.prepare(offline=True)

    from evals.bench.machine import usable_threads
    from evals.bench.page import write_page
    from evals.bench.results import write_report
    from evals.bench.session import bench
    from evals.bench.suite import FULL, QUICK

    threads = options.threads or usable_threads()
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    try:
        report = bench(
            sizes,
            only=options.only,
            threads=threads,
            data=options.data,
            output=options.output,
            cache=options.cache,
            quick=options.quick,
            vllm_python=options.vllm_python,
        )
        print(write_report(report, options.output))
        print(write_page(report, options.output))
    except EvaluationError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped; nothing was written", file=sys.stderr)
        return 130  # as a shell reports SIGINT
    if report.refusals:
        print(f"bench: {len(report.refusals)} measurements were refused, see the page", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

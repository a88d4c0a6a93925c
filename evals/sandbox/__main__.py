"""Say which sandbox works here, or measure it; exit 1 if none does.

python -m evals.sandbox --check                        every level: whether it works, or why not
python -m evals.sandbox --bench humaneval.jsonl        programs a second on the problems' own solutions
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from evals.errors import EvaluationError
from evals.sandbox import Level, Limits, Outcome, Program, open_sandbox
from evals.sandbox.sandbox import STRONGEST_FIRST, usable_cores


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.sandbox", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--check", action="store_true", help="run every level's self-test")
    task.add_argument("--bench", type=Path, metavar="FILE", help="HumanEval as JSONL")
    parser.add_argument("--level", choices=[str(level) for level in STRONGEST_FIRST], help="default: the strongest")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="default: the cores this process may use")
    parser.add_argument("--repeat", type=int, default=4, help="how often each solution is run (default: 4)")
    options = parser.parse_args(arguments)
    for name in ("workers", "repeat"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)} is not allowed: it must be at least 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """0 if a sandbox works and, measured, passed every solution."""
    options = parse(arguments)
    levels = (Level(options.level),) if options.level else STRONGEST_FIRST
    try:
        return check(levels) if options.check else bench(options, levels)
    except EvaluationError as error:
        print(error, file=sys.stderr)
        return 1


def check(levels: tuple[Level, ...]) -> int:
    """One line for each level."""
    works = False
    for level in levels:
        try:
            sandbox = open_sandbox(levels=(level,))
        except EvaluationError as error:
            print(f"{level}: {error}")
        else:
            print(f"{level}: works\n{json.dumps(sandbox.describe(), indent=2)}")
            works = True
    return 0 if works else 1


def bench(options: argparse.Namespace, levels: tuple[Level, ...]) -> int:
    """Run every solution once as the gate and the warm-up, then time the rest."""
    programs = read_solutions(options.bench)
    sandbox = open_sandbox(levels=levels, limits=Limits())
    verdicts = sandbox.run(programs, workers=options.workers)
    wrong = [verdict for verdict in verdicts if verdict.outcome is not Outcome.PASSED]
    if wrong:
        print(f"{len(wrong)} of {len(programs)} solutions do not pass, the first with: {wrong[0]}", file=sys.stderr)
        return 1
    started = time.perf_counter()
    sandbox.run(programs * options.repeat, workers=options.workers)
    seconds = time.perf_counter() - started
    count = len(programs) * options.repeat
    print(
        f"{sandbox.level}, {options.workers} workers: {count} programs in {seconds:.2f} s = {count / seconds:.0f} / s"
    )
    return 0


def read_solutions(path: Path) -> list[Program]:
    """HumanEval's problems with their canonical solutions.

    Raises:
        EvaluationError: the file cannot be read as that.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [
            Program(code=row["prompt"] + row["canonical_solution"], test=row["test"], entry_point=row["entry_point"])
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path.name} is not HumanEval as JSONL ({error}): give the file's path") from error


if __name__ == "__main__":
    sys.exit(main())

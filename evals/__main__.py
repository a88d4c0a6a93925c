"""Evaluate a checkpoint and render the results page, or only the page.

python -m evals run                               the bundled checkpoint on the bundled items, offline
python -m evals run --data ../shared/data         ... on real items in JSONL files
python -m evals run --checkpoint adept/persimmon-8b-chat      a checkpoint from the Hub on the Hub's items
python -m evals report                            results/README.md from the records
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evals import environment
from evals.errors import EvaluationError

ROOT = Path(__file__).resolve().parent.parent
BUNDLED_CHECKPOINT = "model/demo/persimmon-demo"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m evals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="evaluate a checkpoint")
    run.add_argument("--checkpoint", default=BUNDLED_CHECKPOINT, help="folder or Hub id (default: the bundled one)")
    run.add_argument("--revision", help="of a Hub checkpoint: branch, tag or commit")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0, ...")
    run.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    run.add_argument(
        "--rope-position-dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="rotary positions as Hugging Face computes them (float32) or as Adept's server did (bfloat16)",
    )
    run.add_argument("--context-length", type=int, help="most tokens of prompt and answer, if not the model's own")
    run.add_argument("--tasks", help="task names, separated by commas (default: all)")
    run.add_argument(
        "--data",
        help="hub, demo, or a folder of JSONL files (default: demo for the bundled checkpoint, else hub)",
    )
    run.add_argument("--limit", type=_at_least_one, help="only the first so many items of each task")
    run.add_argument("--seed", type=int, default=0, help="of the choice of shots (default: 0)")
    report = commands.add_parser("report", help="render the results page from the records")
    for command in (run, report):
        command.add_argument("--output", type=Path, default=ROOT / "results", help="default: results")
    return parser.parse_args(arguments)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, else 1 after one sentence on stderr."""
    options = parse(arguments)
    return run(options) if options.command == "run" else report(options)


def run(options: argparse.Namespace) -> int:
    """`python -m evals run`."""
    checkpoint = options.checkpoint
    if checkpoint == BUNDLED_CHECKPOINT and not Path(checkpoint).exists():
        checkpoint = str(ROOT / BUNDLED_CHECKPOINT)  # called from another folder
    local = Path(checkpoint).is_dir()
    bundled = local and Path(checkpoint).resolve().is_relative_to(ROOT / "model" / "demo")
    data = options.data or ("demo" if bundled else "hub")
    environment.prepare(offline=local and data != "hub")

    # Imported here: these libraries read the environment at import, and `report` needs neither torch nor a model.
    from evals.run import TASKS, evaluate
    from model.interface import EngineError
    from model.open_engine import open_engine

    try:
        engine = open_engine(
            checkpoint,
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
            rope_position_dtype=options.rope_position_dtype,
            context_length=options.context_length,
        )
        try:
            record, folder = evaluate(
                engine,
                data=data,
                output=options.output,
                tasks=options.tasks.split(",") if options.tasks else TASKS,
                limit=options.limit,
                seed=options.seed,
            )
        finally:
            engine.close()
    except (EvaluationError, EngineError) as error:
        print(f"evals: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("evals: stopped; nothing was written", file=sys.stderr)
        return 130  # as a shell reports SIGINT
    from evals.report import warnings
    from evals.statistics import wilson

    for task in record.tasks:
        for metric, correct in task.correct.items():
            score = wilson(correct, task.num_scored)
            print(
                f"{task.task} {metric}: {score.value:.1%} of {score.n} "
                f"(95 % interval {score.low:.1%} to {score.high:.1%}), {task.tokens_per_s} tokens/s"
            )
        for warning in warnings(task):
            print(f"{task.task}: warning: {warning}")
    print(folder)
    rendered = report(options)
    failed = sum(task.failed for task in record.tasks)
    if failed:
        print(f"evals: {failed} requests failed, so the run is not complete: run again", file=sys.stderr)
        return 1
    return rendered


def report(options: argparse.Namespace) -> int:
    """`python -m evals report`."""
    environment.prepare(offline=True)
    from evals.report import write_report

    try:
        print(write_report(options.output))
    except EvaluationError as error:
        print(f"evals: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

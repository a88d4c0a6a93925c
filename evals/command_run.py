"""Evaluate models, one after the other, each loaded once; every answer is kept as it comes, so that a run that was
stopped goes on when the same command is given again.

A model is a folder, the name of a bundled checkpoint or a Hub id (our engine), `hf:` and the same (lm-eval's own
Hugging Face back-end), or the address of an OpenAI-compatible endpoint, `http://127.0.0.1:8000/v1` or `...#name`.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals import environment
from evals.errors import EvaluationError
from evals.model_names import bundled_checkpoints, is_bundled, is_endpoint
from evals.suites import SUITES, tasks_of

if TYPE_CHECKING:
    from evals.models import ModelOptions
    from evals.record import RunRecord
    from evals.sandbox import Sandbox

RESULTS = Path(__file__).resolve().parent.parent / "results"
CHAT_FORMATS = {"raw": (False,), "chat": (True,), "both": (False, True)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m evals run`."""
    parser.add_argument("--models", help="names, separated by commas (default: all bundled checkpoints)")
    parser.add_argument("--checkpoint", help="the same for one model")
    parser.add_argument("--revision", help="of a Hub checkpoint: branch, tag or commit")
    parser.add_argument("--suite", help=f"{', '.join(SUITES)}, or several separated by commas (default: by --data)")
    parser.add_argument("--tasks", help="task names, separated by commas, instead of a suite")
    parser.add_argument(
        "--data", help="hub, demo, or a folder of JSONL files (default: demo for bundled checkpoints, else hub)"
    )
    parser.add_argument("--limit", type=at_least_one, help="only the first so many items of each task")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of shots (default: 0)")
    parser.add_argument(
        "--chat-format",
        choices=CHAT_FORMATS,
        default="raw",
        help="prompts as they are, in the model's chat format, or both, as two rows (default: raw)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0, ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument(
        "--rope-position-dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="rotary positions as Hugging Face computes them (float32) or as Adept's server did (bfloat16)",
    )
    parser.add_argument("--no-graphs", action="store_true", help="on a GPU: compute every step without CUDA graphs")
    parser.add_argument(
        "--attention-backend",
        default="auto",
        metavar="NAME[/NAME]",
        help="flash-attn, torch-varlen, triton or sdpa, for prompts and, after a slash, for answers (default: auto)",
    )
    parser.add_argument(
        "--kernels",
        default="auto",
        choices=("auto", "triton", "numba", "reference"),
        help="what computes between the matrices: our kernels, as auto does (Triton's on a GPU, Numba's on a CPU), or "
        "torch",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU: the same bits for an item whatever is computed beside it; slower, prompts most of all",
    )
    parser.add_argument(
        "--gpu-memory-utilization",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="of a GPU's memory, for weights, workspace and KV cache (default: 0.9)",
    )
    parser.add_argument("--context-length", type=int, help="most tokens of prompt and answer, if not the model's own")
    parser.add_argument("--batch-size", type=at_least_one, default=8, help="of lm-eval's hf back-end (default: 8)")
    parser.add_argument(
        "--concurrency", type=at_least_one, default=16, help="requests sent to an endpoint at a time (default: 16)"
    )
    parser.add_argument("--fresh", action="store_true", help="do not go on from an unfinished run: ask everything")
    parser.add_argument(
        "--unsandboxed",
        action="store_true",
        help="run HumanEval's programs without walls where no sandbox can be had; the record says so",
    )
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """`--output`, which all commands on records have."""
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: results")


def at_least_one(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """`python -m evals run`: 0, or 1 if a model could not be evaluated in full."""
    environment.prepare(offline=False)
    if options.models and options.checkpoint:
        raise EvaluationError("--models and --checkpoint were both given: name all models in --models")
    names = (options.models or options.checkpoint or ",".join(bundled_checkpoints())).split(",")
    if "" in names:
        raise EvaluationError(f"--models {options.models!r} has an empty name: separate names by single commas")
    data = options.data or ("demo" if all(is_bundled(name) for name in names) else "hub")
    local = all(is_endpoint(name) or Path(name.removeprefix("hf:")).is_dir() or is_bundled(name) for name in names)
    environment.prepare(offline=local and data != "hub")
    tasks = tuple(options.tasks.split(",")) if options.tasks else tasks_of(options.suite or _suite(data))

    # Imported here: these libraries read the environment at import.
    from evals.models import ModelOptions
    from evals.run import load_tasks

    # Wrong names, unreadable items and a missing sandbox show before any model is loaded.
    _, loaded = load_tasks(tasks, data=data, seed=options.seed)
    sandbox = _sandbox(options) if any(task.config.metadata.get("runs_code") for task in loaded) else None
    how = ModelOptions(
        revision=options.revision,
        device=options.device,
        dtype=options.dtype,
        rope_position_dtype=options.rope_position_dtype,
        context_length=options.context_length,
        graphs=not options.no_graphs,
        attention_backend=options.attention_backend,
        kernels=options.kernels,
        deterministic=options.deterministic,
        gpu_memory_utilization=options.gpu_memory_utilization,
        batch_size=options.batch_size,
        concurrency=options.concurrency,
    )
    command = datetime.now(UTC).isoformat(timespec="seconds")
    failures = 0
    for name in names:
        failures += _run_model(name, how, options, data=data, tasks=tasks, sandbox=sandbox, command=command)
    from evals.command_report import run as report

    return report(options) or int(failures > 0)


def _suite(data: str) -> str:
    return "demo" if data == "demo" else "adept"


def _sandbox(options: argparse.Namespace) -> Sandbox:
    from evals.sandbox import open_sandbox

    sandbox = open_sandbox(allow_unsandboxed=options.unsandboxed)
    print(f"programs run in: {sandbox.level}")
    return sandbox


def _run_model(
    name: str, how: ModelOptions, options: argparse.Namespace, *, sandbox: Sandbox | None, **settings: Any
) -> int:
    """How many runs of one model failed, each said in one sentence."""
    from evals.models import open_model
    from evals.run import evaluate
    from model.interface import EngineError

    failures = 0
    try:
        model = open_model(name, how)
    except (EvaluationError, EngineError) as error:
        print(f"evals: {name}: {error}", file=sys.stderr)
        return 1
    try:
        for chat in CHAT_FORMATS[options.chat_format]:
            try:
                record, folder = evaluate(
                    model,
                    output=options.output,
                    limit=options.limit,
                    seed=options.seed,
                    chat=chat,
                    sandbox=sandbox,
                    fresh=options.fresh,
                    **settings,
                )
            except (EvaluationError, EngineError) as error:
                print(f"evals: {name}: {error}", file=sys.stderr)
                failures += 1
                continue
            _print_scores(record)
            print(folder)
            failed = sum(task.failed for task in record.tasks)
            if failed:
                print(f"evals: {name}: {failed} items failed, so the run is not complete: run again", file=sys.stderr)
                failures += 1
    finally:
        model.close()
    return failures


def _print_scores(record: RunRecord) -> None:
    from evals.scores import task_scores, task_warnings

    print(f"{record.model['name']}, {'chat format' if record.model['chat_format'] else 'raw prompts'}")
    for task in record.tasks:
        speed = "" if task.items_per_s is None else f", {task.items_per_s} items/s, {task.tokens_per_s} tokens/s"
        for metric, score in task_scores(task).items():
            print(
                f"  {task.task} {metric}: {score.value:.1%} of {score.n} "
                f"(95 % interval {score.low:.1%} to {score.high:.1%}){speed}"
            )
        for warning in task_warnings(task):
            print(f"  {task.task}: warning: {warning}")

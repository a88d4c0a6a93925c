"""Run the programs of a recorded run again, from the answers in it: generating and scoring are separate steps.

Nothing is generated and the record stays as it is; verdicts that come out otherwise are listed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from evals.command_run import add_output
from evals.errors import EvaluationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m evals rescore`."""
    parser.add_argument("run", help="name of a run (a folder of results/runs), or of a model: its latest complete run")
    parser.add_argument("--unsandboxed", action="store_true", help="without walls where no sandbox can be had")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m evals rescore`: 0 if every verdict came out as recorded, else 1."""
    from evals.code_runner import run_programs, use_sandbox
    from evals.command_compare import find_run
    from evals.item_record import read_items
    from evals.record import ITEMS_NAME
    from evals.sandbox import open_sandbox
    from evals.tasks.programs import program_of

    record = find_run(options.output, options.run)
    folder = options.output / "runs" / record.run
    tasks = [task.task for task in record.tasks if task.outcomes is not None]
    if not tasks:
        raise EvaluationError(f"{record.run} has no task whose answers are programs")
    sandbox = open_sandbox(allow_unsandboxed=options.unsandboxed)
    print(f"programs run in: {sandbox.level}")
    different = 0
    for task in tasks:
        rows = _samples(folder, task)
        before = [item.outcome for item in read_items(folder / ITEMS_NAME) if item.task == task]
        with use_sandbox(sandbox):
            verdicts = run_programs([program_of(task, row["doc"], row["resps"][0][0]) for row in rows])
        passed = sum(verdict.outcome == "passed" for verdict in verdicts)
        print(f"{task}: {passed} of {len(verdicts)} pass")
        for row, verdict, recorded in zip(rows, verdicts, before, strict=True):
            if verdict.outcome != recorded:
                different += 1
                print(f"  {row['doc']['id']}: {verdict.outcome} ({verdict.message}), recorded as {recorded}")
            if verdict.suspicions:
                print(f"  {row['doc']['id']}: {verdict.outcome}, suspicious: {'; '.join(verdict.suspicions)}")
    return int(different > 0)


def _samples(folder: Path, task: str) -> list[dict[str, Any]]:
    found = list(folder.glob(f"samples_{task}_*.jsonl"))
    if len(found) != 1:
        raise EvaluationError(f"{folder.name} has {len(found)} files of samples of {task}, not one: run again")
    return [json.loads(line) for line in found[0].read_text(encoding="utf-8").splitlines()]

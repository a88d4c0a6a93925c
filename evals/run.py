"""One evaluation: lm-eval's tasks over a model, lm-eval's own files, and the record beside them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from evals.answers import AnswerStore
from evals.code_runner import use_sandbox
from evals.data import DEMO, DEMO_FOLDER, HUB
from evals.errors import EvaluationError
from evals.item_record import ItemRecord, item_records, read_items, write_items
from evals.models import OpenModel, with_chat_format
from evals.provenance import git_state, hardware, public_path, versions
from evals.record import ITEMS_NAME, SCHEMA, RunRecord, write_record
from evals.sandbox import Sandbox, open_sandbox
from evals.suites import ADEPT
from evals.task_record import record_task

TASKS_FOLDER = Path(__file__).parent / "tasks"


def evaluate(
    opened: OpenModel,
    *,
    data: str,
    output: Path,
    tasks: Sequence[str] = ADEPT,
    limit: int | None = None,
    seed: int = 0,
    chat: bool = False,
    sandbox: Sandbox | None = None,
    fresh: bool = False,
    progress: bool = True,
    command: str | None = None,
) -> tuple[RunRecord, Path]:
    """Run `tasks` and write `<output>/runs/<source>--<model>--<UTC time>/`.

    Every answer is kept in `<output>/unfinished/` until the run is recorded, so that a run which was stopped goes on.

    Args:
        data: `hub`, `demo`, or a folder (see `evals.data`).
        limit: only the first so many items of each task; such a run never enters the main table.
        seed: of the choice of shots, and of lm-eval's generators.
        chat: whether prompts are put into the model's chat format.
        sandbox: runs the programs of tasks that have some; opened here if there are such tasks and it is `None`.
        fresh: ask everything again, also what an unfinished run has answered.
        command: when the command started that makes several runs; this one's start if `None`.

    Returns:
        The record and the run's folder.

    Raises:
        DataError: items that cannot be used.
        EvaluationError: an unknown task or option, no sandbox, or a file that was not written.
        EngineError: the engine refused or failed.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    started, clock = datetime.now(UTC), time.perf_counter()
    git = git_state()  # before this run adds files
    manager, loaded = load_tasks(tasks, data=data, seed=seed, chat=chat)
    runs_code = any(task.config.metadata.get("runs_code") for task in loaded)
    if runs_code and sandbox is None:
        sandbox = open_sandbox()
    model = with_chat_format(opened, chat)
    identity = {"model": model.model, "engine": model.engine, "seed": seed, "code": git}
    source = data_source(data)
    with AnswerStore(output / "unfinished", identity, fresh=fresh) as store:
        lm: Any = model.make_lm(store, chat, seed, progress)
        tracker = EvaluationTracker()
        with use_sandbox(sandbox) if runs_code and sandbox is not None else nullcontext():
            results = simple_evaluate(
                model=lm,
                model_args={"model": model.model["name"]},
                tasks=loaded,
                task_manager=manager,
                limit=limit,
                evaluation_tracker=tracker,
                apply_chat_template=chat,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
        samples = results.pop("samples")
        items, task_records = [], []
        for task in loaded:
            mine = samples[task.config.task]
            facts = [fact for fact in lm.facts if fact.task == task.config.task]
            items.append(item_records(task, mine, facts))
            task_records.append(record_task(task, mine, items[-1], lm))

        name = model.model["name"] + ("-chat-format" if chat else "")
        folder = make_run_folder(output, source=source["source"], model=name, started=started)
        files = save_results(tracker, results, samples, folder)
        files |= save_items(folder, [item for task_items in items for item in task_items])
        record = RunRecord(
            schema=SCHEMA,
            run=folder.name,
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - clock, 3),
            command=command or started.isoformat(timespec="seconds"),
            complete=all(task.num_scored == task.num_available for task in task_records),
            limit=limit,
            seed=seed,
            model=model.model,
            engine=model.engine,
            data=source,
            sandbox=sandbox.describe() if runs_code and sandbox is not None else None,
            hardware=hardware(model.engine.get("device") or "cpu"),
            versions=versions(),
            git=git,
            files=files,
            tasks=tuple(task_records),
        )
        write_record(record, folder)
        if record.complete or not any(task.failed for task in task_records):
            store.discard()
    return record, folder


def load_tasks(names: Sequence[str], *, data: str, seed: int, chat: bool = False) -> tuple[TaskManager, list[Any]]:
    """lm-eval's task objects for our task files over one source of items, and the manager of these files alone.

    With `chat` a task file's `chat_until` takes the place of its stop strings.

    Raises:
        DataError: items that cannot be used.
        EvaluationError: there is no such task.
    """
    # A relative path, because lm-eval copies it into its results.
    manager = TaskManager(
        include_path=os.path.relpath(TASKS_FOLDER),
        include_defaults=False,
        metadata={"data": data, "seed": seed},
    )
    for name in names:
        if name not in manager.all_subtasks:
            raise EvaluationError(f"task {name!r} is not known: choose from {', '.join(sorted(manager.all_subtasks))}")
    loaded = list(manager.load(list(dict.fromkeys(names)))["tasks"].values())
    for task in loaded:
        if chat and "chat_until" in task.config.metadata:
            task.set_config("generation_kwargs", {"until": task.config.metadata["chat_until"]}, update=True)
    return manager, loaded


def data_source(data: str) -> dict[str, Any]:
    """How a record names where the items came from."""
    if data == HUB:
        return {"source": "hub", "name": "Hugging Face Hub"}
    if data == DEMO or Path(data).resolve() == DEMO_FOLDER.resolve():
        return {"source": "demo", "name": public_path(str(DEMO_FOLDER))}
    return {"source": "folder", "name": public_path(data)}


def make_run_folder(output: Path, *, source: str, model: str, started: datetime) -> Path:
    """A new folder for one run. The source comes first, so that one pattern can keep demonstration runs in git."""
    plain_model = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.") or "model"
    folder = output / "runs" / f"{source}--{plain_model}--{started:%Y%m%dT%H%M%SZ}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise EvaluationError(f"{folder.name} exists already: runs of one model start a second apart") from None
    except OSError as error:
        raise EvaluationError(f"{output} cannot be written to ({error.strerror}): choose another --output") from None
    return folder


def save_results(
    tracker: EvaluationTracker, results: dict[str, Any], samples: dict[str, Any], folder: Path
) -> dict[str, str]:
    """Have lm-eval write its results and samples into `folder`, then check them; it only warns where it
    fails.

    Returns:
        SHA-256 of each file, by name.

    Raises:
        EvaluationError: a file is missing or lacks something.
    """
    tracker.output_path = str(folder / "results.json")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        if hasattr(tracker, "date_id"):  # set by the line above, if it succeeded
            tracker.save_results_samples(task_name=task, samples=rows)
    written = {"results": _only_file(folder, "results_*.json")}
    try:
        scored = json.loads(written["results"].read_text(encoding="utf-8"))["results"]
    except (ValueError, KeyError):
        raise EvaluationError(f"{written['results'].name} is not lm-eval's results: run again") from None
    if set(scored) != set(samples):
        raise EvaluationError(f"{written['results'].name} holds other tasks than were run: run again")
    for task, rows in samples.items():
        path = _only_file(folder, f"samples_{task}_*.jsonl")
        with path.open(encoding="utf-8") as lines:
            ids = [json.loads(line)["doc_id"] for line in lines]
        if ids != [row["doc_id"] for row in rows]:
            raise EvaluationError(f"{path.name} does not hold the {len(rows)} items scored: run again")
        written[task] = path
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written.values()}


def save_items(folder: Path, items: Sequence[ItemRecord]) -> dict[str, str]:
    """Write the items into `folder` and read them back.

    Returns:
        SHA-256 of the file, by name.

    Raises:
        EvaluationError: what was written is not what was meant.
    """
    path = folder / ITEMS_NAME
    write_items(path, items)
    if list(read_items(path)) != list(items):
        raise EvaluationError(f"{path.name} does not read back as it was written: check the disk and run again")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}


def _only_file(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise EvaluationError(f"{folder.name} has {len(found)} files {pattern}, not one: lm-eval could not write")
    return found[0]

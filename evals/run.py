"""One evaluation: lm-eval's tasks over an engine, lm-eval's own files, and the record beside them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from evals.data import DEMO, DEMO_FOLDER, HUB
from evals.engine_lm import EngineLM
from evals.errors import EvaluationError
from evals.provenance import git_state, hardware, public_path, versions
from evals.record import SCHEMA, RunRecord, write_record
from evals.task_record import record_task
from model.interface import Engine, EngineInfo

TASKS_FOLDER = Path(__file__).parent / "tasks"
TASKS = ("adept_arc_easy", "likelihood_arc_easy")


def evaluate(
    engine: Engine,
    *,
    data: str,
    output: Path,
    tasks: Sequence[str] = TASKS,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> tuple[RunRecord, Path]:
    """Run `tasks` and write `<output>/runs/<source>--<model>--<UTC time>/`.

    Args:
        data: `hub`, `demo`, or a folder (see `evals.data`).
        limit: only the first so many items of each task; such a run never enters the main table.
        seed: of the choice of shots, and of lm-eval's generators.

    Returns:
        The record and the run's folder.

    Raises:
        DataError: items that cannot be used.
        EvaluationError: an unknown task or option, or a file that was not written.
        EngineError: the engine refused or failed.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    started, clock = datetime.now(UTC), time.perf_counter()
    git = git_state()  # before this run adds files
    manager, loaded = load_tasks(tasks, data=data, seed=seed)
    lm = EngineLM(engine, seed=seed, progress=progress)
    tracker = EvaluationTracker()
    results = simple_evaluate(
        model=lm,
        model_args={"model": engine.info.model_name},
        tasks=loaded,
        task_manager=manager,
        limit=limit,
        evaluation_tracker=tracker,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    samples = results.pop("samples")
    task_records = tuple(record_task(task, samples[task.config.task], lm) for task in loaded)

    source = data_source(data)
    folder = make_run_folder(output, source=source["source"], model=engine.info.model_name, started=started)
    files = save_results(tracker, results, samples, folder)
    record = RunRecord(
        schema=SCHEMA,
        run=folder.name,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - clock, 3),
        complete=all(task.num_scored == task.num_available and not task.failed for task in task_records),
        limit=limit,
        seed=seed,
        model=describe_model(engine.info),
        engine=describe_engine(engine.info),
        data=source,
        hardware=hardware(engine.info.device),
        versions=versions(),
        git=git,
        files=files,
        tasks=task_records,
    )
    write_record(record, folder)
    return record, folder


def load_tasks(names: Sequence[str], *, data: str, seed: int) -> tuple[TaskManager, list[Any]]:
    """lm-eval's task objects for our task files over one source of items, and the manager of these files alone.

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
            raise EvaluationError(f"task {name!r} is not known: choose from {', '.join(manager.all_subtasks)}")
    loaded = manager.load(list(dict.fromkeys(names)))["tasks"]
    return manager, list(loaded.values())


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


def _only_file(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise EvaluationError(f"{folder.name} has {len(found)} files {pattern}, not one: lm-eval could not write")
    return found[0]


def describe_model(info: EngineInfo) -> dict[str, Any]:
    """The identity of the answers: what was asked, in which form."""
    return {
        "name": info.model_name,
        "source": public_path(info.source),
        "revision": info.revision,
        "family": info.family,
        "num_parameters": info.num_parameters,
        "weights_sha256": info.weights_sha256,
        "tokenizer_sha256": info.tokenizer_sha256,
        "licence": info.licence,
        "notice": info.notice,
        "chat_format": None,
        "bos": info.prompts_begin_with_bos,
    }


def describe_engine(info: EngineInfo) -> dict[str, Any]:
    """How the answers were computed."""
    return {
        "device": info.device,
        "dtype": info.dtype,
        "rope_position_dtype": info.rope_position_dtype,
        "attention_backend": info.attention_backend,
        "context_length": info.context_length,
        "block_size": info.block_size,
        "num_blocks": info.num_blocks,
        "max_num_requests": info.max_num_requests,
        "versions": dict(info.versions),
    }

"""The task files as lm-eval itself sees them: found by include path, equal to its own form, run by its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evals.run import TASKS, TASKS_FOLDER, load_tasks
from evals.tasks.arc import arc_easy

ROOT = Path(__file__).resolve().parents[2]


def sent(task: Any) -> list[tuple[Any, ...]]:
    task.build_all_requests()
    return [instance.args for instance in task.instances]


def test_found_by_include_path() -> None:
    manager = TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False)
    assert set(TASKS) == set(manager.all_subtasks)


def test_every_file_says_what_the_record_needs(items: Path) -> None:
    _, tasks = load_tasks(TASKS, data=str(items), seed=0)
    for task in tasks:
        metadata = task.config.metadata
        assert metadata["version"]
        assert metadata["shots"] in (0, 1)
        assert set(metadata["scores"]) <= {metric["metric"] for metric in task.config.metric_list}
        assert task.config.num_fewshot == 0


def test_likelihood_is_lm_evals_own_form(items: Path) -> None:
    _, (ours,) = load_tasks(["likelihood_arc_easy"], data=str(items), seed=0)
    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / "arc" / "arc_easy.yaml")
    config |= {
        "custom_dataset": lambda **_: arc_easy(data=str(items)),
        "training_split": None,
        "validation_split": None,
        "tag": None,
    }
    theirs = ConfigurableTask(config=config)
    assert sent(ours) == sent(theirs)
    assert [ours.doc_to_target(doc) for doc in ours.eval_docs] == [theirs.doc_to_target(doc) for doc in ours.eval_docs]
    assert ours.aggregation() == theirs.aggregation()
    result = [(-5.0, False), (-6.0, False), (-4.0, False), (-9.0, False)]
    for doc in ours.eval_docs:
        assert ours.process_results(doc, result) == theirs.process_results(doc, result)


def test_generative_task_sends_the_prompt_alone(items: Path) -> None:
    _, (task,) = load_tasks(["adept_arc_easy"], data=str(items), seed=0)
    prompt, options = sent(task)[0]
    assert prompt.endswith("Answer:")
    assert options == {"until": [], "do_sample": False, "max_gen_toks": 8}


@pytest.mark.slow
def test_lm_evals_own_command_line(items: Path, tmp_path: Path) -> None:
    """With its dummy model; the folder of items is passed as task metadata."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "dummy", "--include_path", "evals/tasks"),
            *("--tasks", ",".join(TASKS), "--metadata", json.dumps({"data": str(items)})),
            *("--output_path", str(tmp_path / "out"), "--log_samples"),
        ],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = tmp_path.glob("out/**/results_*.json")
    scores = json.loads(results.read_text(encoding="utf-8"))["results"]
    assert scores["adept_arc_easy"]["unreadable,first-line"] == 1.0  # the dummy model says "lol"
    assert 0 <= scores["likelihood_arc_easy"]["acc,none"] <= 1
    assert scores["likelihood_arc_easy"]["sample_len"] == 12

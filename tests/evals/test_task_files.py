"""The task files as lm-eval itself sees them: found by include path, equal to its own form, run by its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import lm_eval
import pytest
import yaml
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evals.errors import EvaluationError
from evals.run import TASKS_FOLDER, load_tasks
from evals.suites import SUITES, benchmark_of, tasks_of
from evals.tasks import items as benchmarks
from evals.tasks.items import BENCHMARKS

ROOT = Path(__file__).resolve().parents[2]
TASKS = SUITES["demo"]
LM_EVALS_FILES = {
    "likelihood_arc_easy": "arc/arc_easy.yaml",
    "likelihood_arc_challenge": "arc/arc_challenge.yaml",
    "likelihood_winogrande": "winogrande/default.yaml",
    "standard_triviaqa": "triviaqa/default.yaml",
}


def sent(task: Any) -> list[tuple[Any, ...]]:
    task.build_all_requests()
    return [instance.args for instance in task.instances]


def lm_evals_own(file: str, benchmark: str, **changes: Any) -> ConfigurableTask:
    """A task as lm-eval's own file has it, over the bundled items."""
    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / file)
    config |= {
        "custom_dataset": lambda **_: getattr(benchmarks, benchmark)(data="demo"),
        "training_split": None,
        "validation_split": None,
        "fewshot_split": None,
        "test_split": "test",
        "tag": None,
    }
    return ConfigurableTask(config=config | changes)


def test_found_by_include_path() -> None:
    manager = TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False)
    assert set(TASKS) == set(manager.all_subtasks)
    assert set(manager.all_groups) == {"adept", "likelihood"}


def test_suites() -> None:
    assert {benchmark_of(task) for task in SUITES["adept"]} == set(BENCHMARKS)
    assert {benchmark_of(task) for task in SUITES["likelihood"]} == set(BENCHMARKS)
    assert tasks_of("adept,likelihood") == tasks_of("demo,adept")
    with pytest.raises(EvaluationError, match="suite 'all' is not known: choose from adept, likelihood, demo"):
        tasks_of("all")


def test_every_file_says_what_the_record_needs() -> None:
    _, tasks = load_tasks(TASKS, data="demo", seed=0)
    for task in tasks:
        metadata = task.config.metadata
        assert metadata["version"]
        assert metadata["shots"] == int(task.config.task.startswith("adept_"))
        assert set(metadata["scores"]) <= {metric["metric"] for metric in task.config.metric_list}
        assert task.config.num_fewshot == 0
        assert bool(metadata.get("runs_code")) == task.config.task.endswith("humaneval")
        assert ("shot" in task.eval_docs.features) == (metadata["shots"] == 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", LM_EVALS_FILES)
def test_likelihood_is_lm_evals_own_form(name: str) -> None:
    _, (ours,) = load_tasks([name], data="demo", seed=0)
    theirs = lm_evals_own(LM_EVALS_FILES[name], benchmark_of(name))
    assert sent(ours) == sent(theirs)
    targets = [[task.doc_to_target(doc) for doc in task.eval_docs] for task in (ours, theirs)]
    assert targets[0] == targets[1]
    assert ours.aggregation() == theirs.aggregation()
    for doc in ours.eval_docs:
        if ours.OUTPUT_TYPE == "multiple_choice":
            results: list[Any] = [(-5.0 + n * (-1) ** n, False) for n in range(len(doc["choices"]["label"]))]
            assert ours.process_results(doc, results) == theirs.process_results(doc, results)
        else:
            for answer in (doc["answer"]["value"].upper() + "!", "something else"):
                assert ours.process_results(doc, [answer]) == theirs.process_results(doc, [answer])


def test_mmlu_is_lm_evals_own_form() -> None:
    """Every subject is a task of its own there."""
    _, (ours,) = load_tasks(["likelihood_mmlu"], data="demo", seed=0)
    description = "The following are multiple choice questions (with answers) about {subject}.\n\n"
    files = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    assert description.format(subject="abstract algebra") in (files / "mmlu_abstract_algebra.yaml").read_text().replace(
        "\\\n  \\ ", " "
    ).replace("\\n", "\n")
    theirs = load_yaml(files / "_default_template_yaml")
    environment = jinja2.Environment()
    choices = environment.from_string(theirs["doc_to_text"])
    for doc in ours.eval_docs:
        if len(doc["choices"]["text"]) != 4:
            continue
        raw = {"question": doc["question"], "choices": doc["choices"]["text"]}
        wanted = description.format(subject=doc["subject"].replace("_", " ")) + choices.render(**raw)
        assert ours.doc_to_text(doc) == wanted
        assert ours.doc_to_choice(doc) == theirs["doc_to_choice"]
        assert doc["choices"]["label"][ours.doc_to_target(doc)] == doc["answerKey"]


def test_humaneval_is_lm_evals_own_form() -> None:
    """Their file cannot be loaded without the Hub, so its text is compared."""
    path = Path(lm_eval.__file__).parent / "tasks" / "humaneval" / "humaneval.yaml"
    theirs = yaml.safe_load(path.read_text(encoding="utf-8").replace("!function ", ""))
    _, (ours,) = load_tasks(["standard_humaneval"], data="demo", seed=0)
    assert ours.config.generation_kwargs == theirs["generation_kwargs"]
    assert theirs["doc_to_text"] == "{{prompt}}"
    assert sent(ours) == [(doc["prompt"], theirs["generation_kwargs"]) for doc in ours.eval_docs]


def test_chat_runs_have_their_own_ends() -> None:
    for chat, stops in ((False, 6), (True, 0)):
        _, (task,) = load_tasks(["adept_humaneval"], data="demo", seed=0, chat=chat)
        ((_, options), *_) = sent(task)
        assert (len(options["until"]), options["max_gen_toks"]) == (stops, 512)


def test_generative_task_sends_the_prompt_alone(items: Path) -> None:
    _, (task,) = load_tasks(["adept_arc_easy"], data=str(items), seed=0)
    prompt, options = sent(task)[0]
    assert prompt.endswith("Answer:")
    assert options == {"until": [], "do_sample": False, "max_gen_toks": 8}


@pytest.mark.slow
def test_lm_evals_own_command_line(tmp_path: Path) -> None:
    """With its dummy model, on both groups; the source of items is passed as task metadata."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "dummy", "--include_path", "evals/tasks"),
            *("--tasks", "adept,likelihood", "--metadata", json.dumps({"data": "demo"})),
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
    assert scores["adept_humaneval"]["pass@1,run-tests"] == 0.0
    assert 0 <= scores["likelihood_arc_easy"]["acc,none"] <= 1
    assert scores["likelihood_arc_easy"]["sample_len"] == 200

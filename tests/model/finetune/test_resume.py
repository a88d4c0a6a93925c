"""A run that was stopped, or killed, goes on to the very same weights; another run never goes on in its place."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoints import tiny_settings, write_examples
from transformers import TrainerControl, TrainerState, TrainingArguments

from model.finetune import run
from model.finetune.documents import DataError
from model.finetune.loss_curve import Diverged, LossCurve
from model.finetune.settings import FinetuneSettings, SettingsError
from model.finetune.unfinished import last_state, work_folder

pytestmark = [
    pytest.mark.usefixtures("no_pictures"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning"),
]

ROOT = Path(__file__).parents[3]
ROWS = [{"text": f"q w e r t y u i o p {number} {number}"} for number in range(7)]
"""Each fills most of a row of 32 tokens: seven rows, four steps of two in an epoch, the last of one row."""
KINDS: dict[str, dict[str, Any]] = {
    "full adamw": {"method": "full"},
    "full muon": {"method": "full", "optimizer": "muon", "weight_decay": 0.1},
    "lora with dropout": {"method": "lora", "lora_dropout": 0.4, "gradient_checkpointing": True},
}
SMALL = {"row_length": 32, "epochs": 3, "learning_rate": 1e-2, "lora_rank": 4, "log_every": 3}


def settings_of(checkpoint: Path, folder: Path, kind: str, **changes: Any) -> FinetuneSettings:
    """Twelve steps over three shuffled epochs."""
    folder.mkdir(exist_ok=True)
    data = write_examples(folder / "rows.jsonl", ROWS)
    return tiny_settings(checkpoint, folder, data=data, **SMALL | KINDS[kind] | changes)


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None, signal.Signals], None]:
    """A function to have a signal come during a step of the next run; `None`: no more."""

    def stop_at(step: int | None, number: signal.Signals = signal.SIGINT) -> None:
        class Stopping(LossCurve):
            def on_step_begin(
                self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
            ) -> None:
                if state.global_step + 1 == step:
                    signal.raise_signal(number)

        monkeypatch.setattr(run, "LossCurve", Stopping)

    return stop_at


@pytest.fixture(scope="module")
def unstopped(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that gives the folder of an uninterrupted run of a kind."""
    folders: dict[str, Path] = {}

    def output_of(kind: str) -> Path:
        if kind not in folders:
            settings = settings_of(checkpoints["persimmon"], tmp_path_factory.mktemp("unstopped"), kind)
            assert run.finetune(settings).steps == 12
            folders[kind] = settings.output
        return folders[kind]

    return output_of


def assert_same_tensors(output: Path, expected: Path) -> None:
    for path in expected.rglob("*.safetensors"):
        wanted, found = load_file(path), load_file(output / path.relative_to(expected))
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert torch.equal(found[name], tensor), name


def assert_same_result(output: Path, expected: Path, *, same_intervals: bool = True) -> None:
    """Weights, adapter, losses: to the last bit."""
    assert_same_tensors(output, expected)
    wanted, found = (pd.read_csv(folder / "loss.csv").set_index("step") for folder in (expected, output))
    columns = ["epoch", "learning_rate", "gradient_norm"]  # after going on, the first loss is of fewer steps
    pd.testing.assert_frame_equal(found.loc[wanted.index, columns], wanted[columns], rtol=0, atol=0)
    if same_intervals:
        assert found["loss"].iloc[-1] == wanted["loss"].iloc[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_twice_equals_not_stopped(
    kind: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    stop_at: Callable[..., None],
    unstopped: Callable[[str], Path],
) -> None:
    """In the middle of an epoch, and at the end of one."""
    settings = settings_of(checkpoints["persimmon"], tmp_path, kind)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    resumed_from = 0
    for step, number in ((3, signal.SIGINT), (8, signal.SIGTERM)):
        stop_at(step, number)
        result = run.finetune(settings)
        assert (result.finished, result.steps, result.resumed_from) == (False, step, resumed_from)
        assert not settings.output.exists()
        resumed_from = step
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    stop_at(None)
    result = run.finetune(settings)
    assert (result.finished, result.steps, result.resumed_from) == (True, 12, 8)
    assert not work_folder(settings.output).exists()
    assert json.loads((settings.output / "finetune.json").read_text())["resumed_from"] == 8
    assert_same_result(settings.output, unstopped(kind))


def test_a_signal_in_the_last_step_changes_nothing(
    checkpoints: dict[str, Path], tmp_path: Path, stop_at: Callable[..., None], unstopped: Callable[[str], Path]
) -> None:
    settings = settings_of(checkpoints["persimmon"], tmp_path, "full adamw")
    stop_at(12)
    assert run.finetune(settings).finished
    assert_same_result(settings.output, unstopped("full adamw"))


def remove_record(state: Path) -> None:
    (state / "trainer_state.json").unlink()


def cut_record(state: Path) -> None:
    path = state / "trainer_state.json"
    path.write_bytes(path.read_bytes()[:100])


def remove_random_state(state: Path) -> None:
    (state / "rng_state.pth").unlink()


def only_weights(state: Path) -> None:
    for path in state.iterdir():
        if path.suffix != ".safetensors":
            path.unlink()


def test_a_torn_state_is_not_taken(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    stop_at: Callable[..., None],
    unstopped: Callable[[str], Path],
) -> None:
    """As if killed while it was being written."""
    settings = settings_of(checkpoints["persimmon"], tmp_path, "full adamw", save_every=4)
    stop_at(6)
    run.finetune(settings)
    work = work_folder(settings.output)
    assert sorted(path.name for path in work.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    whole = tmp_path / "whole"
    shutil.copytree(work / "checkpoint-6", whole)
    for tear in (remove_record, cut_record, remove_random_state, only_weights):
        shutil.rmtree(work / "checkpoint-6")
        shutil.copytree(whole, work / "checkpoint-6")
        assert last_state(work, processes=1) == work / "checkpoint-6"
        tear(work / "checkpoint-6")
        assert last_state(work, processes=1) == work / "checkpoint-4"
    stop_at(None)
    result = run.finetune(settings)
    assert (result.finished, result.resumed_from) == (True, 4)
    assert_same_result(settings.output, unstopped("full adamw"))


def test_killed_before_the_first_state(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unstopped: Callable[[str], Path],
) -> None:
    """While packing, half of it on disk."""
    settings = settings_of(checkpoints["persimmon"], tmp_path, "full adamw")
    with monkeypatch.context() as patch:
        patch.setattr(run, "load_for_training", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.finetune(settings)
    (work_folder(settings.output) / "data" / "counts.json").unlink()
    result = run.finetune(settings)
    assert (result.finished, result.resumed_from) == (True, 0)
    assert_same_result(settings.output, unstopped("full adamw"))


def interrupted(*values: object, **named: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("max_steps", [None, 6])
def test_killed_after_the_last_state(
    max_steps: int | None,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the folder was being written, at the end of an epoch or in the middle of one: no step is added."""
    validation = write_examples(tmp_path / "validation.jsonl", ROWS[:1])
    runs = {}
    for name in ("whole", "killed"):
        settings = runs[name] = settings_of(
            checkpoints["persimmon"], tmp_path / name, "full adamw", max_steps=max_steps, validation=validation
        )
        if name == "killed":
            with monkeypatch.context() as patch:
                patch.setattr(run, "write_checkpoint", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    run.finetune(settings)
            assert not settings.output.exists()
        result = run.finetune(settings)
        assert result.finished
        assert result.steps == (max_steps or 12)
        assert result.resumed_from == (0 if name == "whole" else result.steps)
        assert result.final_loss is not None
        assert result.validation_loss is not None
    assert_same_result(runs["killed"].output, runs["whole"].output)
    first, second = (json.loads((settings.output / "finetune.json").read_text()) for settings in runs.values())
    for key in ("steps", "final_loss", "validation_loss", "data"):
        assert first[key] == second[key]


@pytest.mark.slow
def test_intervals_may_change_and_then_hold(
    checkpoints: dict[str, Path], tmp_path: Path, stop_at: Callable[..., None], unstopped: Callable[[str], Path]
) -> None:
    settings = settings_of(checkpoints["persimmon"], tmp_path, "full adamw")
    stop_at(6)
    run.finetune(settings)
    stop_at(11)
    run.finetune(replace(settings, log_every=1, save_every=2))
    states = work_folder(settings.output).glob("checkpoint-*")
    assert sorted(path.name for path in states) == ["checkpoint-10", "checkpoint-11"]
    stop_at(None)
    run.finetune(replace(settings, log_every=1))
    assert pd.read_csv(settings.output / "loss.csv")["step"].tolist() == [1, 3, 6, 7, 8, 9, 10, 11, 12]
    assert_same_result(settings.output, unstopped("full adamw"), same_intervals=False)


@pytest.fixture
def stopped(checkpoints: dict[str, Path], tmp_path: Path, stop_at: Callable[..., None]) -> Iterator[FinetuneSettings]:
    """Settings of a run with a saved state."""
    settings = settings_of(checkpoints["persimmon"], tmp_path, "full adamw")
    stop_at(2)
    run.finetune(settings)
    stop_at(None)
    return settings


def test_other_settings_do_not_go_on(stopped: FinetuneSettings, tmp_path: Path) -> None:
    work = work_folder(stopped.output)
    rest = "remove that folder, or give the same settings to go on"
    for changes, names in (
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"seed": 1, "epochs": 2}, "epochs and seed"),
        ({"learning_rate_of": {"norm": 1.0}}, "learning_rate_of"),
        ({"validation": stopped.data}, "validation and validation_sha256"),
    ):
        with pytest.raises(SettingsError, match=f"{work} holds an unfinished run with another {names}: {rest}"):
            run.finetune(replace(stopped, **changes))
    write_examples(stopped.data, ROWS[:6])
    with pytest.raises(SettingsError, match=f"{work} holds an unfinished run with another data_sha256: {rest}"):
        run.finetune(stopped)
    stopped.data.unlink()
    with pytest.raises(DataError, match="is not there: check the path"):
        run.finetune(stopped)
    assert last_state(work, processes=1) == work / "checkpoint-2"


def test_where_nothing_was_trained_other_settings_begin_anew(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """After a mistake in the data, or a loss that was no number, one corrects it and starts again."""
    settings = settings_of(checkpoints["persimmon"], tmp_path, "full adamw", save_every=50)
    settings.data.write_text("{")
    with pytest.raises(DataError, match="this is no JSON"):
        run.finetune(settings)
    write_examples(settings.data, ROWS)
    with pytest.raises(Diverged):
        run.finetune(replace(settings, learning_rate=1e30, log_every=1))
    assert run.finetune(settings).finished


def test_a_folder_that_is_no_run_is_left_alone(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    settings = settings_of(checkpoints["persimmon"], tmp_path, "full adamw")
    work = work_folder(settings.output)
    work.mkdir()
    (work / "thesis.tex").write_text("mine")
    with pytest.raises(SettingsError, match="is there and is no unfinished run: choose another output, or remove it"):
        run.finetune(settings)
    assert [path.name for path in work.iterdir()] == ["thesis.tex"]


OPTIONS = (
    *("checkpoint", "data", "output", "method", "dtype", "row_length", "rows_per_step", "epochs", "learning_rate"),
    *("optimizer", "lora_rank", "lora_dropout", "device", "log_every", "save_every"),
)


def start(settings: FinetuneSettings, *, processes: int = 1) -> subprocess.Popen[str]:
    """The command line in a process of its own, or by torchrun in several."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    chosen = [f"--{name.replace('_', '-')}={getattr(settings, name)}" for name in OPTIONS]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "model.finetune", *chosen, "--no-gradient-checkpointing"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.mark.slow
def test_signals_to_a_process(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Ctrl-C once, SIGKILL while a state is being written, then to the end."""
    kind = "lora with dropout"
    changes = {"epochs": 30, "save_every": 10, "log_every": 10, "gradient_checkpointing": False}
    whole = settings_of(checkpoints["persimmon"], tmp_path / "whole", kind, **changes)
    process = start(whole)
    assert process.wait() == 0, process.communicate()[1]

    settings = settings_of(checkpoints["persimmon"], tmp_path / "killed", kind, **changes)
    work = work_folder(settings.output)
    process = start(settings)
    wait_for(work / "checkpoint-20" / "trainer_state.json", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    (steps,) = re.findall(r"interrupted: (\d+) steps are saved; the same command goes on from there\n$", said)
    assert last_state(work, processes=1) == work / f"checkpoint-{steps}"

    process = start(settings)
    wait_for(work / f"checkpoint-{int(steps) // 10 * 10 + 20}", process)
    process.kill()
    process.communicate()
    assert not settings.output.exists()
    process = start(settings)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert not work.exists()
    assert_same_tensors(settings.output, whole.output)


@pytest.mark.slow
def test_two_processes_stop_in_the_same_step(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Ctrl-C reaches torchrun and both; together they go on to what they give without it."""
    changes = {"epochs": 30, "save_every": 10, "log_every": 10, "gradient_checkpointing": False}
    whole, settings = (
        settings_of(checkpoints["llama"], tmp_path / name, "full muon", **changes) for name in ("whole", "stopped")
    )
    process = start(whole, processes=2)
    _, said = process.communicate()
    assert process.returncode == 0, said
    work = work_folder(settings.output)
    process = start(settings, processes=2)
    wait_for(work / "checkpoint-20" / "trainer_state.json", process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    (steps,) = re.findall(r"interrupted: (\d+) steps are saved; the same command goes on from there\n", said)
    assert last_state(work, processes=2) == work / f"checkpoint-{steps}"
    assert last_state(work, processes=3) is None
    process = start(settings, processes=2)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert_same_tensors(settings.output, whole.output)

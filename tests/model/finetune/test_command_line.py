"""`python -m model.finetune`: an option for every setting, one sentence for what is wrong, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import write_examples

from model.finetune import run
from model.finetune.__main__ import HELP, build_parser, leave_the_others, main
from model.finetune.run import FinetuneResult
from model.finetune.settings import CHOICES, FinetuneSettings

ROOT = Path(__file__).parents[3]
REQUIRED = ["--checkpoint=base", "--data=rows.jsonl", "--output=out"]
FIELDS = {field.name: field for field in dataclasses.fields(FinetuneSettings)}


def settings_of(*options: str) -> FinetuneSettings:
    """What the command line makes of options, without running anything."""
    seen: list[FinetuneSettings] = []

    def finetune(settings: FinetuneSettings) -> FinetuneResult:
        seen.append(settings)
        return FinetuneResult(True, 3, 0, 0.5, None, 60.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "finetune", finetune)
        assert main([*REQUIRED, *options]) == 0
    (settings,) = seen
    return settings


def test_every_setting_has_an_option_and_help() -> None:
    assert list(HELP) == list(FIELDS)
    assert all(HELP.values())
    options = {action.dest: action for action in build_parser()._actions if action.dest != "help"}
    assert list(options) == list(FIELDS)
    for name, action in options.items():
        assert f"--{name.replace('_', '-')}" in action.option_strings
        assert action.help is not None
        assert action.help.startswith(HELP[name])
        assert (str(action.metavar).startswith("{")) is (name in CHOICES)


def test_defaults_are_those_of_the_settings() -> None:
    assert settings_of() == FinetuneSettings(checkpoint="base", data=Path("rows.jsonl"), output=Path("out"))


VALUES: dict[str, Any] = {
    "checkpoint": "other",
    "data": Path("other.csv"),
    "output": Path("else"),
    "revision": "v2",
    "validation": Path("some.csv"),
    "learning_rate_of": {"lm_head": 1e-4, "a=b": 2.0},
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_reaches_its_setting(name: str) -> None:
    default = FIELDS[name].default
    flag = f"--{name.replace('_', '-')}"
    if name in CHOICES:
        value: Any = CHOICES[name][-1]
        options = [flag, value]
    elif isinstance(default, bool):
        value = not default
        options = [flag if value else flag.replace("--", "--no-")]
    elif name == "learning_rate_of":
        value = VALUES[name]
        options = [part for rate in value.items() for part in (flag, "=".join(map(str, rate)))]
    else:
        value = VALUES.get(name, 0.5 if "float" in str(FIELDS[name].type) else 8)
        options = [flag, str(value)]
    settings = settings_of(*options)
    assert getattr(settings, name) == value
    base = FinetuneSettings(checkpoint="base", data=Path("rows.jsonl"), output=Path("out"))
    assert dataclasses.replace(base, **{name: value}) == settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "the following arguments are required: --checkpoint, --data, --output"),
        ([*REQUIRED, "--learning-rat=1", "--epoch-s=3"], "unrecognized arguments"),
        ([*REQUIRED, "--learning-rat=1"], "unrecognized arguments"),
        ([*REQUIRED, "--lora-r=1"], "unrecognized arguments"),
        ([*REQUIRED, "--epochs=half"], "invalid int value: 'half'"),
    ],
)
def test_unknown_options_are_errors(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(options)
    assert raised.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--dtype=float16", "dtype='float16' is not allowed in training: squared ReLU leaves"),
        ("--method=qlora", "method='qlora' is not allowed: use lora or full\n"),
        ("--device=cuda:1", "device='cuda:1' is not allowed: use auto or cpu or cuda\n"),
        ("--rows-per-step=0", "rows_per_step=0 is not allowed: it must be at least 1\n"),
        ("--learning-rate=nan", "learning_rate=nan is not allowed: it must be above 0\n"),
        ("--learning-rate-of=lm_head", "learning_rate_of='lm_head' is not allowed: write PART=RATE, such as"),
        ("--learning-rate-of=lm_head=fast", "learning_rate_of='lm_head=fast' is not allowed: write PART=RATE"),
        ("--learning-rate-of==1e-4", "learning_rate_of='=1e-4' is not allowed: write PART=RATE"),
        ("--seed=0", "'base' is neither a folder here nor a Hub id: give a folder's path or owner/name\n"),
    ],
)
def test_errors_are_one_sentence(option: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*REQUIRED, option]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1


def test_other_processes_say_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main([*REQUIRED, "--epochs=0"]) == 1
    assert capsys.readouterr() == ("", "")
    settings_of()
    assert capsys.readouterr() == ("", "")


def test_interrupted_before_training(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def finetune(settings: FinetuneSettings) -> FinetuneResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "finetune", finetune)
    assert main(REQUIRED) == 130
    assert capsys.readouterr().err == "interrupted: the same command goes on from what is saved\n"


def test_interrupted_while_training(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "finetune", lambda settings: FinetuneResult(False, 7, 0, 1.0, None, 60.0))
    assert main(REQUIRED) == 130
    assert capsys.readouterr().err == "interrupted: 7 steps are saved; the same command goes on from there\n"


def test_what_is_said_at_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "finetune", lambda settings: FinetuneResult(True, 7, 0, 0.25, 0.5, 90.0))
    assert main(REQUIRED) == 0
    assert capsys.readouterr().out == (
        "out: 7 steps in 1.5 min, last loss 0.2500, validation loss 0.5000\ntry it: python -m app --checkpoint out\n"
    )


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )


def test_help_and_wrong_options_do_not_wait_for_torch() -> None:
    program = (
        "import sys\nfrom model.finetune.__main__ import build_parser, main\nbuild_parser().format_help()\n"
        "assert main(['--checkpoint=x', '--data=x', '--output=x', '--dtype=float16']) == 1\n"
        "sys.exit(bool({'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)))"
    )
    done = command("-c", program)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_whole_run(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """All defaults but for the sizes: LoRA in bfloat16 with gradient checkpointing."""
    data = write_examples(tmp_path / "rows.jsonl")
    output = tmp_path / "tuned"
    options = [f"--checkpoint={checkpoints['llama']}", f"--data={data}", f"--output={output}", "--row-length=256"]
    done = command("-m", "model.finetune", "--help")
    assert done.returncode == 0
    assert "--no-gradient-checkpointing" in done.stdout
    done = command("-m", "model.finetune", *options, "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{output}: 3 steps in 0.")
    assert done.stdout.endswith(f"try it: python -m app --checkpoint {output}\n")
    assert "3/3" in done.stderr  # the progress bar
    assert "loss=" in done.stderr
    assert "warn" not in done.stderr.lower()
    assert json.loads((output / "finetune.json").read_text())["settings"]["learning_rate"] == 2e-4
    done = command("-m", "model.finetune", *options, "--device=cpu")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"output='{output}' is there already: choose another folder or remove it\n"


def test_processes_that_trained_together_part_before_the_interpreter_ends(tmp_path: Path) -> None:
    """Else a thread of torch's aborts one of them, rarely, after its work is done."""
    leave_the_others()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    leave_the_others()
    assert not torch.distributed.is_initialized()

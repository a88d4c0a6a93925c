"""`python -m model.finetune classify`: an option for every setting, what it says, and its exit codes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from model.finetune.__main__ import main
from model.finetune.classify import write
from model.finetune.classify.command import HELP, build_parser
from model.finetune.classify.settings import CHOICES, ClassifySettings

FIELDS = {field.name: field for field in dataclasses.fields(ClassifySettings)}


def test_every_setting_has_an_option_and_help() -> None:
    assert set(HELP) == set(FIELDS)
    options = {action.dest: action for action in build_parser()._actions if action.dest != "help"}
    assert set(options) == set(FIELDS)
    for name, action in options.items():
        assert f"--{name.replace('_', '-')}" in action.option_strings
        assert action.help is not None
        assert action.help.startswith(HELP[name])
        assert (str(action.metavar).startswith("{")) is (name in CHOICES)


def test_defaults_are_those_of_the_settings() -> None:
    required = ["--model=base", "--data=rows.csv", "--output=out"]
    chosen = ClassifySettings(**vars(build_parser().parse_args(required)))
    assert chosen == ClassifySettings(model="base", data=Path("rows.csv"), output=Path("out"))
    assert not ClassifySettings(**vars(build_parser().parse_args([*required, "--no-whole"]))).whole


def test_from_a_file_to_a_folder(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "draw", lambda folder, measured: None)
    data = tmp_path / "rows.csv"
    rows = [f"the {word} {number},{word}" for word in ("fox", "dog") for number in range(10)]
    data.write_text("\n".join(["review,kind", *rows, ",fox"]) + "\n")
    command = [
        "classify",
        f"--model={checkpoints['persimmon']}",
        f"--data={data}",
        f"--output={tmp_path / 'kinds'}",
        f"--cache={tmp_path / 'cache'}",
        "--text-column=review",
        "--label-column=kind",
        "--device=cpu",
    ]
    assert main(command) == 1
    assert capsys.readouterr().err == f"{data}, line 22: review is empty: write a text\n"
    assert main([*command, "--bad-rows=skip"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"skipped {data}, line 22: review is empty: write a text"
    assert shown[1] == f"{tmp_path / 'kinds'}: 2 labels; texts for training, validation, test: 12, 4, 4"
    assert shown[3].startswith("kinds ")
    assert shown[-1] == f"try it: python -m app --checkpoint {tmp_path / 'kinds'}"
    assert main([*command, "--bad-rows=skip"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--dtype=float16"]) == 1
    assert "dtype='float16' is not allowed in training" in capsys.readouterr().err


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.finetune.classify.run.train_head", interrupt)
    assert main(["classify", "--model=x", f"--data={tmp_path / 'x.csv'}", f"--output={tmp_path / 'x'}"]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was written; hidden states that were computed are kept\n"

"""`python -m app classify`: streams, files and exit codes."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import ScriptedEngine

from app.__main__ import main
from model.interface import EngineClosed

ROOT = Path(__file__).resolve().parents[3]

Open = Callable[..., ScriptedEngine]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ScriptedEngine]]:
    """What the command opens in place of checkpoints: engines that find everything with a q good."""
    engines: list[tuple[str, ScriptedEngine]] = []

    def open_engine(checkpoint: str, **_: Any) -> ScriptedEngine:
        engine = ScriptedEngine(
            lambda prompt: " good" if "q" in prompt.rpartition("human:")[2] else " bad",
            heads={"sentiment": ("bad", "good")},
            logits=lambda head, text: (0.0, 3.0 if "q" in text else -3.0),
            context_length=400,
        )
        engines.append((checkpoint, engine))
        return engine

    monkeypatch.setattr("model.open_engine.open_engine", open_engine)
    return engines


@pytest.fixture
def give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a text on standard input."""
    with ExitStack() as files:

        def put(text: str) -> None:
            path = tmp_path / "stdin"
            path.write_text(text)
            monkeypatch.setattr(sys, "stdin", files.enter_context(path.open()))

        yield put


def test_lines_in_and_json_out(
    opened: list[Any], give: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    give("qq\nyy\n")
    assert main(["classify", "--labels", "good,bad", "--checkpoint", "somewhere"]) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["good", "bad"]
    assert err == ""
    ((checkpoint, engine),) = opened
    assert checkpoint == "somewhere"
    assert engine.priorities == ["batch", "batch"]
    with pytest.raises(EngineClosed):
        engine.score([])


def test_a_csv_file_and_a_head(opened: list[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id;said\n1;q\n2;\n3;" + "y" * 500 + "\n", encoding="utf-8-sig")
    arguments = ["classify", "--head", "sentiment", "--input", str(source), "--column", "said", "--output", str(target)]
    assert main(arguments) == 3
    assert target.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(target.open(encoding="utf-8-sig", newline="")))
    assert [(row["line"], row["status"], row["predicted label"], row["id"]) for row in rows] == [
        ("2", "answered", "good", "1"),
        ("3", "not answered", "", "2"),
        ("4", "not answered", "", "3"),
    ]
    assert rows[2]["reason"].startswith("the text is too long: the prompt has 500 tokens")
    assert main([*arguments, "--too-long", "cut", "--output-format", "jsonl"]) == 3
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8-sig").splitlines()]
    assert [line["status"] for line in lines] == ["answered", "not answered", "cut"]
    assert main(["classify", "--head", "elsewhere", "--input", str(source), "--column", "said"]) == 1
    assert "head 'elsewhere' is not known: scripted-engine has sentiment" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "one of the arguments --labels --labels-file --head is required"),
        (["--labels", "a,b", "--input", "x.docx"], 2, "has none of the endings"),
        (["--labels", "a,b", "--scoring", "best"], 2, "invalid choice: 'best'"),
        (["--labels", "a"], 1, "one label alone"),
        (["--labels", "a,b", "--template", "{text}"], 1, "has {label} 0 times"),
        (["--labels", "a,b", "--input", "not-there.csv"], 1, "not-there.csv cannot be used (No such file"),
        (["--labels", "a,b", "--threshold", "2"], 1, "threshold=2.0 is not allowed"),
    ],
)
def test_wrong_options_are_one_sentence(
    arguments: list[str],
    status: int,
    message: str,
    opened: list[Any],
    give: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    give("x\n")
    try:
        got: int | str | None = main(["classify", *arguments])
    except SystemExit as ended:
        got = ended.code
    assert got == status
    error = capfd.readouterr().err
    assert message in error
    assert error.splitlines()[-1].count("error: ") == 1


def test_the_input_is_not_written_over(opened: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\nx\n")
    assert main(["classify", "--labels", "a,b", "--input", str(source), "--output", str(source)]) == 1
    assert "is the input: choose another name" in capsys.readouterr().err
    assert source.read_text() == "text\nx\n"


@pytest.mark.slow
def test_a_line_is_answered_before_the_next_one_comes_and_ctrl_c_ends_it() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "classify", "--labels", "Positive,Negative", "--device", "cpu"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in a shell's background has Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for text, label in (("What a lovely film!", "Positive"), ("The soup was terrible.", "Negative")):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] == label
        process.send_signal(signal.SIGINT)  # while it waits for the next line
        assert process.wait(20) == 130
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()

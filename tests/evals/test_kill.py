"""kill -9 in the middle of a run, three times; the same command goes on and ends where an undisturbed one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evals.item_record import read_items
from evals.record import ITEMS_NAME, read_record

ROOT = Path(__file__).resolve().parents[2]
TASKS = "adept_arc_easy,likelihood_arc_easy"
NUM_REQUESTS = 200 + 811  # one an item, one a choice

pytestmark = pytest.mark.slow


def start(output: Path) -> subprocess.Popen[str]:
    command = ["run", "--models", "persimmon-demo", "--data", "demo", "--tasks", TASKS, "--output", str(output)]
    return subprocess.Popen(
        [sys.executable, "-m", "evals", *command, "--device", "cpu"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def answers_kept(output: Path) -> int:
    """How many requests have an answer; one asked again has two lines."""
    lines = [line for path in output.glob("unfinished/*.jsonl") for line in path.read_bytes().split(b"\n")[1:-1]]
    return len({line.partition(b",")[0] for line in lines})


def test_killed_three_times(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    assert process.wait() == 0, process.communicate()[0][-2000:]

    moments = sorted(random.sample(range(1, NUM_REQUESTS - 200), 3))
    kept = 0
    for moment in moments:
        process = start(killed)
        while answers_kept(killed) < moment:
            assert process.poll() is None, f"ended before {moment} of {moments}: {process.communicate()[0][-2000:]}"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (killed / "runs").exists()
        kept = answers_kept(killed)
    process = start(killed)
    assert process.wait() == 0, process.communicate()[0][-2000:]

    folders = [next((output / "runs").iterdir()) for output in (whole, killed)]
    records = [read_record(folder / "run.json") for folder in folders]
    rows = [[replace(item, output="") for item in read_items(folder / ITEMS_NAME)] for folder in folders]
    assert rows[0] == rows[1]  # log-probabilities may differ in the last place: other requests ran beside them
    assert len(rows[1]) == 400
    assert [task.correct for task in records[0].tasks] == [task.correct for task in records[1].tasks]
    assert sum(task.num_resumed for task in records[0].tasks) == 0
    # Choices of one item (at most 5) are asked together: of the one that each kill caught half written, all were again.
    resumed = sum(task.num_resumed for task in records[1].tasks)
    assert kept - 3 * 4 <= resumed <= kept, moments
    assert list((killed / "unfinished").iterdir()) == []

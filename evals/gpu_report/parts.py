"""What a report runs, in which order and for how long, and how the output of each is read."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evals.bench_engine.results import DATA as ENGINE_DATA
from evals.bench_engine.results import read_report as read_engine
from evals.bench_engine.sections import NAMES
from evals.errors import EvaluationError

ROOT = Path(__file__).resolve().parents[2]
TESTS, GATE, KERNELS, ENGINE, SANITIZER = "kernel tests", "gate", "kernels", "engine", "sanitizer"
MOST_TEST_PROCESSES = 12  # compiling is what takes the time, and it is done by the processor
COMPILED_TESTS = (
    "test_sparse_down.py",
    "test_paged_attention.py",
    "test_qk_rotary.py",
    "test_residual_norm.py",
    "test_activations.py",
    "test_gemv.py",
    "test_token_logprobs.py",
    "test_sampling.py",
)
_VERDICT = re.compile(
    r"(PASSED|FAILED|ERROR|SKIPPED) (tests/\S+(?:\[.*?\])?)|(tests/\S+(?:\[.*?\])?) (PASSED|FAILED|ERROR|SKIPPED)"
)
_SUMMARY = re.compile(r"^(?:FAILED|ERROR) (tests/.*?) - (.*)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where and on what. `output`: the folder that stands for `results`."""

    device: str
    size: str
    output: Path

    @property
    def is_gpu(self) -> bool:
        return self.device.startswith("cuda")


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One part.

    Attributes:
        share_s: most seconds of nine minutes; the engine's are what the others leave. least_s: that must be left.
        absent: why it cannot run; `None` if it can.
        command: from the seconds it is given. environment: beside our own.
        read: from its output's lines and its exit status, what was found and what is missing, if something is.
    """

    name: str
    title: str
    share_s: float
    least_s: float
    absent: str | None
    command: Callable[[float], Sequence[str]]
    read: Callable[[Sequence[str], int | None], tuple[Mapping[str, Any], str | None]]
    environment: Mapping[str, str] = field(default_factory=dict)


def works(setting: Setting) -> tuple[Work, ...]:
    """All parts in their order."""
    bench = setting.output / "bench"
    engine = [
        sys.executable, "-m", "evals.bench_engine", "--device", setting.device, "--size", setting.size,
        "--output", str(bench),
    ]  # fmt: skip
    return (
        Work(
            name=TESTS,
            title="The kernels' tests, compiled",
            share_s=100,
            least_s=20,
            absent=None if find_spec("pytest") else "pytest is not installed",
            command=lambda seconds: [*_pytest(setting), *_many_processes(), *_test_files(setting)],
            environment=_on_gpu(setting),
            read=read_tests,
        ),
        Work(
            name=GATE,
            title="The engine's gate",
            share_s=150,
            least_s=40,
            absent=None,
            command=lambda seconds: [*engine, "--only", "gate", "--minutes", f"{seconds / 60:.2f}"],
            read=lambda lines, code: _read_engine(bench, ("roofs", "gate")),
        ),
        Work(
            name=KERNELS,
            title="The kernels' benchmark",
            share_s=110,
            least_s=20,
            absent=None if setting.is_gpu else "kernels are timed on a GPU alone",
            command=lambda seconds: [
                sys.executable, "-m", "kernels.bench", "--device", setting.device, "--seconds", f"{seconds - 12:.0f}",
                "--output", str(setting.output / "kernels"),
            ],
            read=read_kernels,
        ),
        Work(
            name=ENGINE,
            title="The engine's benchmark",
            share_s=float("inf"),
            least_s=40,
            absent=None,
            command=lambda seconds: [*engine, "--minutes", f"{seconds / 60:.2f}"],
            read=lambda lines, code: _read_engine(bench, NAMES),
        ),
        Work(
            name=SANITIZER,
            title="compute-sanitizer on the kernels' tests",
            share_s=float("inf"),
            least_s=45,
            absent=_why_no_sanitizer(setting),
            command=lambda seconds: [
                "compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9", *_pytest(setting),
                *_test_files(setting),
            ],
            environment={**_on_gpu(setting), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
            read=read_sanitizer,
        ),
    )  # fmt: skip


def read_tests(lines: Sequence[str], code: int | None) -> tuple[Mapping[str, Any], str | None]:
    """Numbers of tests by verdict, and those that failed with the first line of why."""
    verdicts: dict[str, str] = {}
    for line in lines:
        if match := _VERDICT.search(line):
            first, name, other_name, second = match.groups()
            verdicts[name or other_name] = first or second
    why = {said[1]: said[2] for line in lines if (said := _SUMMARY.match(line))}
    failed = sorted(name for name, verdict in verdicts.items() if verdict in ("FAILED", "ERROR"))
    found = {
        "passed": sum(verdict == "PASSED" for verdict in verdicts.values()),
        "skipped": sum(verdict == "SKIPPED" for verdict in verdicts.values()),
        "failed": {name: why.get(name, "see the log") for name in failed},
    }
    if failed:
        return found, f"{len(failed)} of {len(verdicts)} tests failed"
    if code != 0:
        return found, "not all tests were run"
    return found, None if found["passed"] else "no test was run"


def read_kernels(lines: Sequence[str], code: int | None) -> tuple[Mapping[str, Any], str | None]:
    """What `kernels.bench` said on stderr."""
    problems = [line.removeprefix("kernels.bench: ") for line in lines if line.startswith("kernels.bench: ")]
    if code == 0:
        return {"problems": []}, None
    return {"problems": problems}, f"{len(problems)} cases have no figure" if problems else "it did not end well"


def read_sanitizer(lines: Sequence[str], code: int | None) -> tuple[Mapping[str, Any], str | None]:
    """The tests' verdicts and the tool's summary of errors, without which nothing was proved."""
    found, missing = read_tests(lines, code)
    summaries = [line.strip("= ").strip() for line in lines if "ERROR SUMMARY:" in line]
    errors = sum(int(match[1]) for line in summaries if (match := re.search(r"ERROR SUMMARY: (\d+) error", line)))
    found = {**found, "errors": errors if summaries else None}
    if errors:
        return found, f"it found {errors} errors"
    return found, missing or (None if summaries else "it gave no summary")


def _read_engine(folder: Path, names: Sequence[str]) -> tuple[Mapping[str, Any], str | None]:
    """From what the benchmark wrote: sections by status."""
    try:
        report = read_engine(folder / ENGINE_DATA)
    except EvaluationError as error:
        return {}, str(error)
    status = {name: report.section(name).status for name in names}
    missing = [name for name, one in status.items() if one not in ("measured", "absent")]
    if not missing:
        return status, None
    first = report.section(missing[0])
    return status, f"{len(missing)} of {len(names)} sections are missing, first {first.name}: {first.reason}"


def _pytest(setting: Setting) -> list[str]:
    return [
        sys.executable, "-m", "pytest", "-v", "--color=no", "--tb=short", "-rfE", "-p", "no:cacheprovider",
    ]  # fmt: skip


def _many_processes() -> list[str]:
    if find_spec("xdist") is None:
        return []
    return ["-n", str(min(os.cpu_count() or 1, MOST_TEST_PROCESSES)), "--dist", "worksteal"]


def _test_files(setting: Setting) -> list[str]:
    """All of them on a GPU; on a CPU, where the interpreter runs them in any `make test`, one that is soon done."""
    folder = Path("tests") / "kernels" / "gpu"
    return [str(folder / name) for name in (COMPILED_TESTS if setting.is_gpu else ("test_sparse_down.py",))]


def _on_gpu(setting: Setting) -> dict[str, str]:
    return {"TRITON_INTERPRET": "0", "KERNEL_TESTS_DEVICE": setting.device} if setting.is_gpu else {}


def _why_no_sanitizer(setting: Setting) -> str | None:
    if not setting.is_gpu:
        return "it checks what runs on a GPU"
    if find_spec("pytest") is None:
        return "pytest is not installed"
    return None if shutil.which("compute-sanitizer") else "compute-sanitizer is not on the PATH"

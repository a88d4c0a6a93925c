"""The report on one GPU: its parts and their time, what is read from their output, the page, and what it imports."""

from __future__ import annotations

import ast
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.bench_engine import __main__ as bench_engine
from evals.bench_engine.page import render as render_engine
from evals.bench_engine.plots import ROOFLINE
from evals.bench_engine.results import DATA as ENGINE_DATA
from evals.bench_engine.results import Report as EngineReport
from evals.bench_engine.results import read_report as read_engine
from evals.bench_engine.sections import NAMES
from evals.gpu_report import __main__ as command
from evals.gpu_report import run as running
from evals.gpu_report.page import render, write_page
from evals.gpu_report.parts import (
    ENGINE,
    GATE,
    KERNELS,
    SANITIZER,
    TESTS,
    Setting,
    Work,
    read_kernels,
    read_sanitizer,
    read_tests,
    works,
)
from evals.gpu_report.results import DATA, GpuReport, Part, read_report, write_report
from evals.gpu_report.run import OUT_OF_TIME, Ended, run_parts, run_process

ROOT = Path(__file__).resolve().parents[2]
EMPTY = GpuReport(
    schema=1, size="full", machine={"gpu": "NVIDIA H200"}, versions={"torch": "2.11.0"}, sources="0", parts=()
)
ALLOWED = {
    "torch", "triton", "transformers", "tokenizers", "safetensors", "sentencepiece", "huggingface_hub", "numpy",
    "psutil", "yaml", "flash_attn", "llvmlite",
}  # fmt: skip
"""yaml comes with transformers; flash_attn, and on a CPU llvmlite, are used where they are installed."""
TINY_ON_CPU = ("--device", "cpu", "--size", "tiny")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves after all of it on a CPU."""
    output = tmp_path_factory.mktemp("whole")
    assert command.main([*TINY_ON_CPU, "--output", str(output)]) == 0
    return output


@pytest.mark.slow
def test_all_of_it_on_a_cpu(whole: Path) -> None:
    report = read_report(whole / "bench" / DATA)
    assert {part.name: part.status for part in report.parts} == {
        TESTS: "done",
        GATE: "done",
        KERNELS: "absent",
        ENGINE: "done",
        SANITIZER: "absent",
    }
    assert report.part(TESTS).found["passed"] > 20
    page = (whole / "bench" / "gpu.md").read_text()
    assert "measures nothing" in page
    assert "kernels are timed on a GPU alone" in page
    assert "exact sparse MLP at 90% zeros" in page
    begin = time.monotonic()
    assert command.main([*TINY_ON_CPU, "--output", str(whole)]) == 0
    assert time.monotonic() - begin < 10, "what is done is not done again"


@pytest.mark.slow
def test_the_engines_sections_on_a_cpu(whole: Path) -> None:
    """All of `evals.bench_engine`, which the report began twice: for its gate, and to go on with the rest."""
    folder = whole / "bench"
    report = read_engine(folder / ENGINE_DATA)
    status = {name: report.section(name).status for name in NAMES}
    absent = {"sparse", "no-graphs", "grid", "hf-static-compile"}
    assert {name for name, one in status.items() if one == "absent"} == absent
    assert {name for name, one in status.items() if one == "measured"} == set(NAMES) - absent
    page = (folder / "engine.md").read_text()
    assert page == render_engine(report)
    assert "measures nothing" in page
    assert "they need a GPU, and this engine runs on cpu" in page
    assert "transformers compiles decoding on a GPU alone" in page
    assert (folder / ROOFLINE).read_text().startswith("<svg")
    # Again, nothing is left to measure but what was absent, and those figures stay.
    figures = report.section("mixed").figures
    assert bench_engine.main([*TINY_ON_CPU, "--output", str(folder), "--only", "mixed"]) == 0
    assert read_engine(folder / ENGINE_DATA).section("mixed").figures == figures


def work(name: str, *, share_s: float = 100, least_s: float = 10, absent: str | None = None) -> Work:
    def read(lines: Sequence[str], code: int | None) -> tuple[Mapping[str, Any], str | None]:
        return {"lines": len(lines)} if lines else {}, None if code == 0 else "something is missing"

    return Work(
        name=name,
        title=name,
        share_s=share_s,
        least_s=least_s,
        absent=absent,
        command=lambda seconds: [sys.executable, "-c", ""],
        read=read,
    )


class Parts:
    """Parts that take the time they are told and end as they are told."""

    def __init__(self, **outcomes: tuple[float, int, list[str]]) -> None:
        self.now, self.outcomes, self.given = 0.0, outcomes, dict[str, float]()

    def __call__(self, work: Work, seconds: float) -> Ended:
        self.given[work.name] = seconds
        takes, code, lines = self.outcomes[work.name]
        self.now += min(takes, seconds)
        return Ended(lines=lines, code=code if takes <= seconds else None, seconds=min(takes, seconds))

    def run(
        self, todo: Sequence[Work], folder: Path, *, deadline: float | None, report: GpuReport = EMPTY
    ) -> GpuReport:
        return run_parts(report, todo, folder=folder, deadline=deadline, start=self, now=lambda: self.now)


def test_every_part_has_its_time(tmp_path: Path) -> None:
    parts = Parts(a=(30, 0, ["x"]), b=(500, 0, ["y"]), c=(20, 1, []), d=(1, 0, []), e=(1, 0, []))
    todo = [work("a"), work("b"), work("c", share_s=float("inf")), work("d", least_s=60), work("e", absent="not here")]
    report = parts.run(todo, tmp_path, deadline=190)
    assert parts.given == {"a": 100, "b": 100, "c": 60}
    assert [(one.name, one.status, one.reason) for one in report.parts] == [
        ("a", "done", None),
        ("b", "in part", "it was stopped after 100 s; something is missing"),
        ("c", "failed", "something is missing"),
        ("d", "not reached", OUT_OF_TIME),
        ("e", "absent", "not here"),
    ]
    assert report.part("b").log == ("y",)
    assert report.part("a").log == ()
    assert read_report(tmp_path / DATA) == report


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    todo = [work("a"), work("b")]
    first = Parts(a=(30, 0, ["x"]), b=(500, 1, ["y"])).run(todo, tmp_path, deadline=130)
    again = Parts(b=(5, 0, ["z", "z"]))
    report = again.run(todo, tmp_path, deadline=130, report=read_report(tmp_path / DATA))
    assert list(again.given) == ["b"]
    assert report.part("a") == first.part("a")
    assert report.part("b").found == {"lines": 2}
    # A part that cannot be begun keeps what an earlier run found.
    kept = Parts().run(todo, tmp_path, deadline=5, report=first)
    assert kept.part("b") == first.part("b")


@pytest.mark.slow
def test_a_part_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOGS", tmp_path)
    mark = tmp_path / "still there"
    child = f"import time, pathlib; time.sleep(4); pathlib.Path({str(mark)!r}).touch()"
    program = (
        "import subprocess, sys, time; print('begun', flush=True); "
        f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    )
    slow = replace(work("slow part"), command=lambda seconds: [sys.executable, "-c", program])
    ended = run_process(slow, 1.5)
    assert (ended.code, list(ended.lines)) == (None, ["begun"])
    assert 1.5 <= ended.seconds < 4
    time.sleep(4)
    assert not mark.exists()
    assert (tmp_path / "slow-part.log").read_text() == "begun\n"


def test_a_part_gets_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOGS", tmp_path)
    told = replace(
        work("told"),
        command=lambda seconds: [sys.executable, "-c", "import os; print(os.environ['TOLD']); raise SystemExit(4)"],
        environment={"TOLD": "so"},
    )
    ended = run_process(told, 30)
    assert (ended.code, list(ended.lines)) == (4, ["so"])


def test_verdicts_of_tests() -> None:
    plain = [
        "tests/kernels/gpu/test_a.py::test_one[dtype0-1] PASSED            [ 50%]",
        "tests/kernels/gpu/test_a.py::test_two FAILED                      [100%]",
        "FAILED tests/kernels/gpu/test_a.py::test_two - AssertionError: not close",
    ]
    found, missing = read_tests(plain, 1)
    assert (found["passed"], found["skipped"]) == (1, 0)
    assert found["failed"] == {"tests/kernels/gpu/test_a.py::test_two": "AssertionError: not close"}
    assert missing == "1 of 2 tests failed"
    side_by_side = [
        "[gw0] [ 10%] PASSED tests/kernels/gpu/test_a.py::test_one[dtype0-1] ",
        "[gw1] [ 20%] SKIPPED tests/kernels/gpu/test_a.py::test_two ",
    ]
    assert read_tests(side_by_side, 0) == ({"passed": 1, "skipped": 1, "failed": {}}, None)
    assert read_tests(side_by_side, None)[1] == "not all tests were run"
    assert read_tests(side_by_side[1:], 0)[1] == "no test was run"


def test_what_the_kernels_benchmark_said() -> None:
    assert read_kernels(["gemv: 3 µs"], 0) == ({"problems": []}, None)
    found, missing = read_kernels(["gemv: 3 µs", "kernels.bench: gemv 8: refused: it differs"], 1)
    assert found == {"problems": ["gemv 8: refused: it differs"]}
    assert missing == "1 cases have no figure"
    assert read_kernels([], None)[1] == "it did not end well"


def test_what_the_sanitizer_said() -> None:
    passed = "tests/kernels/gpu/test_a.py::test_one PASSED"
    assert read_sanitizer([passed, "========= ERROR SUMMARY: 0 errors"], 0)[1] is None
    assert read_sanitizer([passed, "========= ERROR SUMMARY: 2 errors"], 9)[1] == "it found 2 errors"
    assert read_sanitizer([passed], 0)[1] == "it gave no summary"


def test_commands_for_a_gpu(tmp_path: Path) -> None:
    parts = {one.name: one for one in works(Setting(device="cuda", size="full", output=tmp_path))}
    assert list(parts) == [TESTS, GATE, KERNELS, ENGINE, SANITIZER]
    tests = parts[TESTS]
    assert tests.environment == {"TRITON_INTERPRET": "0", "KERNEL_TESTS_DEVICE": "cuda"}
    files = [Path(each) for each in tests.command(100) if each.endswith(".py")]
    kernels = {path.name for path in (ROOT / "tests/kernels/gpu").glob("test_*.py")}
    assert {path.name for path in files} == kernels - {"test_bench.py", "test_compile.py"}
    assert all((ROOT / path).is_file() for path in files)
    assert "--only" in parts[GATE].command(60)
    assert list(parts[GATE].command(60))[-2:] == ["--minutes", "1.00"]
    bench = list(parts[KERNELS].command(110))
    assert bench[bench.index("--seconds") + 1] == "98"
    assert sum(one.share_s for one in parts.values() if one.share_s < 1e9) < 0.7 * 9 * 60, "the engine has the rest"


def test_another_setting_is_begun_anew(tmp_path: Path) -> None:
    done = EMPTY.with_part(Part(name="a", status="done"))
    write_report(done, tmp_path)
    assert command.continued(EMPTY, tmp_path / DATA) == done
    assert command.continued(replace(EMPTY, sources="1"), tmp_path / DATA).parts == ()
    (tmp_path / DATA).write_text("no JSON")
    assert command.continued(EMPTY, tmp_path / DATA) == EMPTY


def test_what_was_left_elsewhere_is_gone_on_with(tmp_path: Path) -> None:
    write_report(EMPTY, tmp_path / "results" / "bench")
    command.carry_over(tmp_path / "results", tmp_path / "out")
    assert read_report(tmp_path / "out" / "bench" / DATA) == EMPTY
    write_report(EMPTY.with_part(Part(name="a", status="done")), tmp_path / "out" / "bench")
    command.carry_over(tmp_path / "results", tmp_path / "out")
    assert read_report(tmp_path / "out" / "bench" / DATA).parts, "what is there stays"


def test_the_page(tmp_path: Path) -> None:
    failed = {"tests/a.py::test_one": "AssertionError: x"}
    report = EMPTY.with_part(
        Part(name=TESTS, status="in part", reason="1 of 9 tests failed", seconds=61.0, log=("the end",),
             found={"passed": 8, "skipped": 0, "failed": failed})
    )  # fmt: skip
    row = {"name": "gemv 1", "seconds": 1e-5, "reference_seconds": 2e-5, "num_bytes": 30_000_000, "problem": None}
    peers = [{"name": "cuBLAS", "seconds": 1.5e-5}]
    kernels = {
        "copy_bytes_per_s": 4e12,
        "rows": [row | {"peers": peers}, {"name": "other", "seconds": None, "problem": "refused: x", "peers": []}],
    }
    engine = EngineReport(schema=1, size="full", dtype="bfloat16", machine={}, versions={}, sources="0", sections=())
    page = render(report, engine, kernels)
    assert "8 passed, 1 failed, 0 skipped; 1 of 9 tests failed" in page
    assert "`tests/a.py::test_one`: AssertionError: x" in page
    assert "| gemv 1 | 10.0 | 75% | 2.00 | cuBLAS 1.50 |" in page
    assert "other: refused: x" in page
    assert "```\nthe end\n```" in page
    assert page.count("not measured yet") > 10
    nothing = write_page(EMPTY, tmp_path).read_text()
    assert "No kernel has been timed on a GPU yet." in nothing
    assert nothing.count("not reached") == 5
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "bench.json").write_text(json.dumps(kernels))
    assert "gemv 1" in write_page(EMPTY, tmp_path).read_text()


@pytest.mark.parametrize(
    "arguments", [["--minutes", "0"], ["--size", "tiny", "--output", "results"], ["--parts", "none"]]
)
def test_wrong_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(arguments)
    assert capsys.readouterr().err


def test_what_it_imports() -> None:
    """A borrowed machine has torch and transformers and no network: what the report reaches needs nothing else."""
    todo = [
        "evals.gpu_report.__main__",
        "evals.bench_engine.__main__",
        "evals.bench_engine.child",
        "kernels.bench.__main__",
    ]
    todo += ["evals.bench_engine.ours", "evals.bench_engine.peers", "model.layers.triton_ops"]
    todo += [f"kernels.gpu.{path.stem}" for path in (ROOT / "kernels" / "gpu").glob("*.py")]
    seen: set[str] = set()
    others: dict[str, str] = {}
    while todo:
        module = todo.pop()
        path = ROOT / Path(*module.split(".")).with_suffix(".py")
        path = path if path.is_file() else ROOT / Path(*module.split(".")) / "__init__.py"
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                first = name.split(".")[0]
                if first in ("evals", "model", "kernels", "app"):
                    todo += [name, *(".".join(name.split(".")[:count]) for count in range(1, name.count(".") + 1))]
                elif first not in sys.stdlib_module_names:
                    others[first] = module
    assert "model.engine.engine" in seen
    assert not any(module.startswith("app") for module in seen)
    assert set(others) <= ALLOWED, {name: module for name, module in others.items() if name not in ALLOWED}

"""The kernels' benchmark: nothing wrong is timed, nothing that was not measured gets a figure.

The times here are invented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")

from example_kernel import bench_case

import kernels.bench.__main__ as program
from kernels.bench import gate, page, results, session

CPU = torch.device("cpu")


class InventedClock:
    """Counts calls and says a microsecond each."""

    def __init__(self) -> None:
        self.num_timed = 0

    def seconds(self, call: Callable[[], Any]) -> float:
        call()
        self.num_timed += 1
        return 1e-6


def double(states: Tensor) -> Tensor:
    return states + states


def almost(states: Tensor) -> Tensor:
    return 2 * states + 0.1


def fail(states: Tensor) -> Tensor:
    raise RuntimeError("no memory\nand more")


def row_of(
    kernel: Callable[[Tensor], Tensor], **peers: Callable[[Tensor], Tensor]
) -> tuple[results.Row, InventedClock]:
    clock = InventedClock()
    return session.run_case("example", bench_case(kernel, peers), CPU, torch.float32, clock=clock), clock


def test_a_right_kernel_is_timed() -> None:
    row, clock = row_of(double, torch=double, wrong=almost, missing=fail)
    assert (row.problem, row.largest_difference, row.seconds, row.reference_seconds) == (None, 0.0, 1e-6, 1e-6)
    assert row.num_bytes == 2 * 64 * 1024 * 4
    torch_peer, wrong, missing = row.peers
    assert torch_peer == results.Peer(name="torch", seconds=1e-6)
    assert wrong.seconds is None
    assert wrong.problem is not None
    assert wrong.problem.startswith("gives something else")
    assert missing.problem == "failed: RuntimeError: no memory"
    assert clock.num_timed == 3


@pytest.mark.parametrize(
    ("kernel", "words"), [(almost, "refused: result 0"), (fail, "failed: RuntimeError: no memory")]
)
def test_a_wrong_kernel_is_not(kernel: Callable[[Tensor], Tensor], words: str) -> None:
    row, clock = row_of(kernel)
    assert row.problem is not None
    assert row.problem.startswith(words)
    assert row.seconds is None
    assert clock.num_timed == 0


def test_a_kernel_that_leaves_places_unwritten_is_refused() -> None:
    row, _ = row_of(lambda states: torch.where(states > 3, torch.nan, 2 * states))
    assert row.problem is not None
    assert row.seconds is None


def test_a_kernel_that_is_not_the_same_twice_is_refused() -> None:
    calls = iter(range(10))
    row, _ = row_of(lambda states: 2 * states + 1e-5 * next(calls))
    assert row.problem == "refused: a second call with the same tensors gave other bits"


def test_several_results() -> None:
    pair = (torch.ones(2), None, torch.zeros(0))
    assert gate.compare(gate.tensors(pair), gate.tensors(pair), absolute=0, relative=0) == 0
    with pytest.raises(gate.ResultsDiffer, match="1 results instead of 2"):
        gate.compare(gate.tensors(torch.ones(2)), gate.tensors(pair), absolute=0, relative=0)
    with pytest.raises(gate.ResultsDiffer, match="dtype"):
        gate.compare((torch.ones(2),), (torch.ones(2).half(),), absolute=1, relative=1)


def test_a_kernel_may_write_into_its_arguments() -> None:
    row, _ = row_of(lambda states: states.mul_(2))
    assert row.problem is None


def test_time_runs_out() -> None:
    times = iter([0.0, 1.0, 11.0])
    cases = {"example": [bench_case(double), bench_case(double)]}
    first, second = session.run(cases, CPU, torch.float32, clock=InventedClock(), seconds=10.0, now=lambda: next(times))
    assert first.problem is None
    assert (second.problem, second.seconds) == (session.OUT_OF_TIME, None)


def report(*rows: results.Row) -> results.Report:
    device = {"name": "A GPU", "memory_gib": 80.0, "multiprocessors": 132, "capability": "9.0"}
    return results.Report(
        schema=results.SCHEMA,
        device=device,
        versions={"torch": "2.13"},
        dtype="bfloat16",
        copy_bytes_per_s=4e12,
        rows=rows,
    )


def test_the_page(tmp_path: Path) -> None:
    good, _ = row_of(double, torch=double, wrong=almost)
    good = replace(good, num_bytes=2_000_000, peers=(results.Peer(name="torch", seconds=3e-6), good.peers[1]))
    bad, _ = row_of(almost)
    made = report(good, replace(bad, name="bad one"))
    read = results.read(results.write(made, tmp_path))
    assert read == made
    text = page.write_page(read, tmp_path).read_text()
    assert "| double 64 x 1024 | 1.0 | 2,000 | 50% | 0.1 | 1.00 | torch 3.00; wrong: gives something else" in text
    assert "- bad one: refused: result 0" in text
    assert "| bad one" not in text


def test_another_schema_is_an_error(tmp_path: Path) -> None:
    path = results.write(replace(report(), schema=0), tmp_path)
    with pytest.raises(ValueError, match="has schema 0"):
        results.read(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 1
    assert capsys.readouterr().err == ("kernels.bench: there is no CUDA GPU here, and kernels are timed on one alone\n")


def test_what_is_not_everything_is_not_written() -> None:
    assert program.parse([]).output == program.RESULTS
    assert all(program.parse(line.split()).output is None for line in ("--check", "--module gemv", "--dtype float16"))


def test_a_device_without_a_number_is_the_first() -> None:
    assert [program.with_index(name).index for name in ("cuda", "cuda:0", "cuda:3")] == [0, 0, 3]

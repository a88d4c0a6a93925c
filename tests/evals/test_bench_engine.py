"""The engine's benchmark: sections on small shapes, time that runs out, processes that die, and the page.

The whole command runs in test_gpu_report.py, whose report is made by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from gpu_results import EMPTY, measured
from graph_devices import PromptDevice

from evals.bench_engine import __main__ as command
from evals.bench_engine import gate, ours, parent, peers
from evals.bench_engine.bars import bars
from evals.bench_engine.bench import Absent, Bench, GateFailed
from evals.bench_engine.child import run_section
from evals.bench_engine.page import render, write_page
from evals.bench_engine.parent import OUT_OF_TIME, Run
from evals.bench_engine.plots import LATENCY, ROOFLINE
from evals.bench_engine.results import DATA, Figure, Report, Section, read_report, sources_hash, write_report
from evals.bench_engine.sections import SECTIONS, Plan, choose
from evals.bench_engine.sizes import FULL, TINY, mixed_requests
from evals.errors import EvaluationError

INTERPRETED = replace(
    TINY,
    max_num_requests=2,
    decode=((1, 12), (2, 16)),
    decode_tokens=4,
    grid_batches=(1,),
    grid_contexts=(16,),
    bare_steps=1,
    gate_prompts=2,
    gate_prompt=8,
    gate_answer=3,
)
"""So small that Triton's interpreter is done in seconds."""


class Recorder:
    """Sections run in this process, one after the other, as a child runs them."""

    def __init__(self, *, kernels: str, backend: Any, sizes: Any = TINY) -> None:
        self.kernels, self.backend, self.sizes = kernels, backend, sizes
        self.kept: dict[str, Any] = {}
        self.earlier: dict[str, Section] = {}

    def bench(self, name: str, figures: list[Figure], model: str = "persimmon-8b") -> Bench:
        return Bench(
            section=name,
            model=model,
            sizes=self.sizes,
            device=torch.device("cpu"),
            dtype=torch.float32,
            kernels=self.kernels,
            backend=self.backend,
            earlier=self.earlier,
            record=figures.append,
            kept=self.kept,
        )

    def __call__(self, name: str, function: Callable[[Bench], None]) -> Section:
        figures: list[Figure] = []
        function(self.bench(name, figures))
        self.earlier[name] = Section(name=name, status="measured", figures=tuple(figures))
        return self.earlier[name]

    def close(self) -> None:
        for each in self.kept.values():
            if hasattr(each, "close"):
                each.close()


@pytest.fixture
def record() -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def new(**options: Any) -> Recorder:
        made.append(Recorder(**options))
        return made[-1]

    yield new
    for each in made:
        each.close()


@pytest.mark.slow
def test_sections_with_our_kernels_and_captured_steps(record: Callable[..., Recorder]) -> None:
    """Triton's interpreter stands for the GPU: whatever needs graphs and skips zeros."""
    run = record(kernels="triton", backend=PromptDevice(), sizes=INTERPRETED)
    run("roofs", ours.roofs)
    found = run("gate", ours.gate)
    modes = {one.name.removeprefix("shortfall ") for one in found.figures if one.name.startswith("shortfall")}
    assert modes == {"together", "alone", "without graphs, together", "without graphs, alone", "dense, together"}
    assert all(one.more["differing"] == 0 for one in found.figures if one.name.startswith("shortfall"))

    model = ours.opened(run.bench("sparse", [])).engine._core.runner.model
    before = [parameter.clone() for parameter in model.parameters()]
    sparse = run("sparse", ours.sparse)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert len(sparse.figures) == len(TINY.zeros) * len(TINY.sparse_batches)
    for one in sparse.figures:
        assert one.problem is None
        assert one.value is not None
        assert one.more["dense_s"] > 0
    alone, together = (sparse.figure("zeros 0.9", batch=batch, context=12) for batch in (1, 2))
    assert alone is not None
    assert together is not None
    assert alone.more["live"] == pytest.approx(0.1, abs=TINY.zeros_tolerance)
    assert alone.more["live"] < together.more["live"] <= 0.3
    nothing = sparse.figure("zeros 0.0", batch=1, context=12)
    assert nothing is not None
    assert nothing.more["live"] == 1.0

    decoded = run("decode", ours.decode)
    for place in INTERPRETED.decode:
        for name in ("step", "bare step"):
            one = decoded.figure(name, batch=place[0], context=place[1])
            assert one is not None
            assert one.roof is not None
            assert one.value is not None
            assert 0 < one.roof < one.value
    assert {one.name for one in run("no-graphs", ours.no_graphs).figures} == {"step with graphs", "step without graphs"}
    assert all(one.value for one in run("grid", ours.grid).figures)


@pytest.mark.slow
def test_a_share_that_the_counter_does_not_find_is_no_figure(record: Callable[..., Recorder]) -> None:
    run = record(kernels="triton", backend=PromptDevice(), sizes=replace(INTERPRETED, zeros_tolerance=-1.0))
    run("roofs", ours.roofs)
    figures = run("sparse", ours.sparse).figures
    assert all((one.value is None) == (one.batch == 1) for one in figures)
    assert "of the rows were live where 0.100 should be" in str(figures[0].problem)


def test_wrong_logits_stop_everything(record: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    run = record(kernels="reference", backend=None)
    run("roofs", ours.roofs)
    logits = peers.hugging_face_logits

    def wrong(*arguments: Any, **options: Any) -> Any:
        found, weights = logits(*arguments, **options)
        return [found[0], found[1].roll(1, dims=1)], weights

    monkeypatch.setattr(peers, "hugging_face_logits", wrong)
    bench = run.bench("gate", [])
    assert run_section("ours:gate", bench)[0] == "refused"
    status, reason = run_section("ours:decode", run.bench("decode", []))
    assert (status, reason) == ("refused", "gate was not measured, and nothing is timed without it")


def test_other_weights_are_refused(record: Callable[..., Recorder]) -> None:
    run = record(kernels="reference", backend=None)
    more = {"fingerprint": "of others"}
    figures = (Figure(name="weights", value=None, unit="", more=more),)
    run.earlier["gate"] = Section(name="gate", status="measured", figures=figures)
    with pytest.raises(GateFailed, match="other weights"):
        peers.opened(run.bench("hf-eager", []))


def test_answers_that_are_not_hugging_faces(record: Callable[..., Recorder]) -> None:
    run = record(
        kernels="reference", backend=None, sizes=replace(TINY, gate_prompts=2, gate_answer=4, peer_tokens=(1, 2))
    )
    run("roofs", ours.roofs)
    found = run("gate", ours.gate)
    [answers] = [one for one in found.figures if one.name == "answers"]
    figures: list[Figure] = []
    peers.check_answers(run.bench("hf-eager", figures), peers.opened(run.bench("hf-eager", [])))
    assert (figures[0].value, figures[0].more) == (0.0, {"differing": 0, "answers": 2})
    answers.more["token_ids"][1][2] += 1  # type: ignore[index]
    with pytest.raises(GateFailed, match="below Hugging Face's best"):
        peers.check_answers(run.bench("hf-eager", figures), peers.opened(run.bench("hf-eager", [])))
    assert figures[1].more == {"differing": 1, "answers": 2}


def test_absent_and_failed_sections(record: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    run = record(kernels="reference", backend=None)
    assert run_section("peers:compiled", run.bench("roofs", [])) == (
        "absent",
        "transformers compiles decoding on a GPU alone",
    )

    def fails(bench: Bench) -> None:
        raise RuntimeError("no such luck\nand more")

    monkeypatch.setattr(ours, "roofs", fails)
    assert run_section("ours:roofs", run.bench("roofs", [])) == ("failed", "RuntimeError: no such luck")


def test_the_gates_bounds() -> None:
    truth = [torch.randn(4, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)]
    near = [truth[0] * 1.01]
    assert gate.relative_error(near, truth) == pytest.approx(0.01)
    assert gate.deviation(near, truth) == pytest.approx(0.01 * float(truth[0].square().mean().sqrt()))
    assert gate.relative_error([truth[0] * torch.nan], truth) == float("inf")
    gate.check_logits({"ours": 0.0149}, measure=0.01)
    for error in (0.0152, float("inf"), float("nan")):
        with pytest.raises(GateFailed, match="ours: logits differ"):
            gate.check_logits({"ours": error}, measure=0.01)
    best = truth[0].argmax(dim=1).tolist()
    assert gate.shortfall(truth[0], best) == 0
    worst = gate.shortfall(truth[0], [0, 0, 0, 0])
    gate.check_tokens({"together": worst}, sigma=worst / 5)
    with pytest.raises(GateFailed, match="together: a token is"):
        gate.check_tokens({"together": worst}, sigma=worst / 7)


def test_requests_are_the_same_for_everybody() -> None:
    first, again = (mixed_requests(FULL, vocab_size=1000, seed=1) for _ in range(2))
    assert first == again
    assert len(first) == 256
    assert {len(prompt) for prompt, _ in first} <= set(range(32, 513))
    assert not {tuple(prompt[:4]) for prompt, _ in first} & {
        tuple(prompt[:4]) for prompt, _ in mixed_requests(FULL, vocab_size=1000, seed=0)
    }


# -- processes and time


Script: TypeAlias = list[tuple[float, dict[str, Any]]]


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeProcess:
    """Writes what it is told at the times it is told; ends with `code` after the last."""

    def __init__(
        self, clock: Clock, request: dict[str, Any], script: list[tuple[float, dict[str, Any]]], code: int
    ) -> None:
        self.clock, self.events, self.script, self.code = clock, Path(request["events"]), script, code
        self.began = clock()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with self.events.open("a") as stream:
            while self.script and self.script[0][0] <= self.clock() - self.began:
                stream.write(json.dumps(self.script.pop(0)[1]) + "\n")
        if self.returncode is None and not self.script:
            self.returncode = self.code
        return self.returncode

    def kill(self) -> None:
        self.returncode = -9

    def wait(self) -> int:
        assert self.returncode is not None
        return self.returncode


def done(name: str, at: float, value: float = 1.0) -> list[tuple[float, dict[str, Any]]]:
    figure = {"name": "step", "value": value, "unit": "s"}
    return [
        (at, {"begin": name}),
        (at + 1, {"figure": figure}),
        (at + 2, {"end": name, "status": "measured", "reason": None, "seconds": 2.0}),
    ]


PLANS = [
    Plan(name="roofs", title="", group="a", function="", least_s=5, limit_s=60, start_s=10),
    Plan(name="gate", title="", group="a", function="", least_s=5, limit_s=60, start_s=10),
    Plan(name="hf-eager", title="", group="b", function="", least_s=5, limit_s=60, start_s=10),
    Plan(name="mpt-7b", title="", group="c", function="", least_s=5, limit_s=60, start_s=10),
]


def run_fake(
    tmp_path: Path, scripts: list[tuple[list[tuple[float, dict[str, Any]]], int]], *, deadline: float | None = None
) -> tuple[Report, list[list[str]], Clock]:
    clock, asked = Clock(), []
    left = list(scripts)

    def start(request: dict[str, Any]) -> FakeProcess:
        asked.append(request["sections"])
        return FakeProcess(clock, request, *left.pop(0))

    run = Run(
        report=EMPTY, folder=tmp_path, device="cuda", kernels="auto", deadline=deadline, start=start, now=clock,
        sleep=clock.sleep,
    )  # fmt: skip
    report = run.measure(PLANS)
    assert read_report(tmp_path / DATA) == report
    return report, asked, clock


def test_sections_of_a_group_share_a_process(tmp_path: Path) -> None:
    report, asked, _ = run_fake(
        tmp_path,
        [(done("roofs", 1) + done("gate", 4), 0), (done("hf-eager", 1), 0), (done("mpt-7b", 1), 0)],
    )
    assert asked == [["roofs", "gate"], ["hf-eager"], ["mpt-7b"]]
    assert [one.status for one in report.sections] == ["measured"] * 4
    assert report.section("gate").figures == (Figure(name="step", value=1.0, unit="s"),)


def test_a_process_that_dies_loses_its_section_alone(tmp_path: Path) -> None:
    report, asked, _ = run_fake(
        tmp_path,
        [
            (done("roofs", 1)[:2], -11),
            (done("gate", 1), 0),
            ([], 1),
            (done("mpt-7b", 1), 0),
        ],
    )
    assert asked == [["roofs", "gate"], ["gate"], ["hf-eager"], ["mpt-7b"]]
    roofs, eager = report.section("roofs"), report.section("hf-eager")
    assert (roofs.status, roofs.reason) == ("in part", "its process was ended by SIGSEGV")
    assert len(roofs.figures) == 1
    assert (eager.status, eager.reason) == ("failed", "its process ended with 1 before it was done: see stderr")
    assert report.section("gate").status == report.section("mpt-7b").status == "measured"


def test_a_device_that_is_lost_needs_a_new_process(tmp_path: Path) -> None:
    failed = [(1.0, {"begin": "roofs"}), (2.0, {"end": "roofs", "status": "failed", "reason": "x", "seconds": 1.0})]
    report, asked, _ = run_fake(
        tmp_path, [(failed, 3), (done("gate", 1), 0), (done("hf-eager", 1), 0), (done("mpt-7b", 1), 0)]
    )
    assert asked[1] == ["gate"]
    assert report.section("roofs").reason == "x"


def test_what_takes_too_long_is_stopped(tmp_path: Path) -> None:
    never = [(1.0, {"begin": "roofs"}), (10_000.0, {})]
    report, asked, clock = run_fake(
        tmp_path, [(never, 0), (done("gate", 1), 0), (done("hf-eager", 1), 0), (done("mpt-7b", 1), 0)]
    )
    assert report.section("roofs").reason == "it was stopped after 60 s"
    assert asked[1] == ["gate"]
    assert clock() < 120


def test_what_does_not_fit_is_left_for_the_next_time(tmp_path: Path) -> None:
    """14 seconds are less than a start and a section; 40 are enough for the first group and end the second."""
    report, asked, _ = run_fake(tmp_path, [], deadline=14)
    assert asked == []
    assert {(one.status, one.reason) for one in report.sections} == {("not reached", OUT_OF_TIME)}
    slow = [(1.0, {"begin": "hf-eager"}), (10_000.0, {})]
    report, asked, clock = run_fake(tmp_path, [(done("roofs", 1) + done("gate", 4), 0), (slow, 0)], deadline=40)
    assert asked == [["roofs", "gate"], ["hf-eager"]]
    assert [report.section(plan.name).status for plan in PLANS] == [
        "measured",
        "measured",
        "not reached",
        "not reached",
    ]
    assert 40 <= clock() <= 41


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run_fake(tmp_path, [(done("roofs", 1) + done("gate", 4), 0)], deadline=19)
    earlier = command.continued(EMPTY, tmp_path / DATA)
    assert earlier.section("gate").status == "measured"
    clock, asked = Clock(), []

    def start(request: dict[str, Any]) -> FakeProcess:
        asked.append((request["sections"], [one["name"] for one in request["earlier"]]))
        return FakeProcess(clock, request, done(request["sections"][0], 1), 0)

    run = Run(report=earlier, folder=tmp_path, device="cuda", kernels="auto", start=start, now=clock, sleep=clock.sleep)
    report = run.measure(PLANS)
    assert asked == [(["hf-eager"], ["roofs", "gate"]), (["mpt-7b"], ["roofs", "gate", "hf-eager"])]
    assert [one.status for one in report.sections] == ["measured"] * 4


@pytest.mark.parametrize(
    "change", [{"sources": "1"}, {"machine": {"gpu": "another"}}, {"versions": {}}, {"dtype": "x"}]
)
def test_figures_of_two_settings_never_meet(tmp_path: Path, change: dict[str, Any]) -> None:
    write_report(EMPTY.with_section(Section(name="roofs", status="measured")), tmp_path)
    assert command.continued(replace(EMPTY, **change), tmp_path / DATA).sections == ()
    (tmp_path / DATA).write_text("{")
    assert command.continued(EMPTY, tmp_path / DATA) == EMPTY


def test_sources_are_hashed(tmp_path: Path) -> None:
    for folder in ("kernels", "model", "evals/bench_engine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "model" / "a.py").write_text("1")
    before = sources_hash(tmp_path)
    (tmp_path / "model" / "a.py").write_text("2")
    assert sources_hash(tmp_path) != before != sources_hash()


def test_what_a_section_needs_is_measured_too() -> None:
    assert [plan.name for plan in choose(["sparse"])] == ["roofs", "gate", "sparse"]
    assert choose([]) == SECTIONS
    with pytest.raises(EvaluationError, match="--only nothing is not known"):
        choose(["nothing"])
    assert issubclass(Absent, EvaluationError)


@pytest.mark.parametrize(
    "arguments",
    [["--minutes", "0"], ["--size", "tiny", "--output", "results/bench"], ["--size", "small"]],
)
def test_wrong_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(arguments)
    assert capsys.readouterr().err


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert command.main(["--output", str(tmp_path)]) == 1
    assert "this machine has 0 CUDA devices" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_real_process_gets_its_request() -> None:
    process = parent.start({"device": "nothing like that"})
    assert process.wait() not in (0, 3)


# -- the page


def test_bars() -> None:
    rows = bars(measured())
    assert [(bar.verdict, bar.value is None) for bar in rows] == [
        ("must", False),  # 0.889 of the floor
        ("must", False),  # 1.33 times
        ("missed", False),  # 1.10 of 1.12
        ("missed", False),  # 0.98
        ("must", False),  # 6.7 times
        ("must", False),  # 1.47 times
        ("aim", False),  # 4 times
        ("must", False),  # 0.75
        ("must", False),  # 2.3 % overhead
        ("aim", False),  # 0.6
        ("missed", False),  # 0.12
        ("must", False),
        ("", True),
    ]
    assert rows[0].value == pytest.approx(0.0040 / 0.0045)
    assert rows[8].value == pytest.approx(0.0045 / 0.0044 - 1)
    assert rows[-1].reason == "MPT-7B: failed, RuntimeError: told | to fail"
    assert all(bar.value is None and bar.reason for bar in bars(EMPTY))


def test_pages(tmp_path: Path) -> None:
    report = measured()
    path = write_page(report, tmp_path)
    page = path.read_text()
    assert page == render(report)
    assert "against the floor by the copy's speed | **88.9 %** | ≥ 80.0 % |" in page
    assert "told \\| to fail" in page
    assert "5 of 6 answers" in page
    for name in (LATENCY, ROOFLINE):
        assert f"![{name}]({name})" in page
        assert (tmp_path / name).read_text().count("<circle") > 1
    empty = write_page(EMPTY, tmp_path).read_text()
    assert not (tmp_path / LATENCY).exists(), "pictures of another report do not stay"
    assert "**" not in empty.partition("## Gate")[0].partition("## Bars")[2], "no figure is guessed"
    assert empty.count("not measured yet") > 10

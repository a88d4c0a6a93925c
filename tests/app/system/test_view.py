"""The System page's figures: the engine's own, and words where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from scripted_engine import ScriptedEngine

from app.system.facts import cuda_graphs, duration, engine_facts, load_facts, model_facts, quantiles
from app.system.history import LoadSample
from app.system.view import facts_html, heading_html, load_html
from model.interface import Latency, SamplingParams


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine(notice="Made <b>up</b>.")
    yield engine
    engine.close()


def test_what_an_engine_does_not_say_is_not_invented(engine: ScriptedEngine) -> None:
    facts = model_facts(engine.info)
    assert facts["Licence of the weights"] == facts["Revision"] == "not stated"
    attention = engine_facts(engine.info)["Attention"]
    assert attention == "scripted: no attention runs (not triton: it needs an NVIDIA GPU)"
    load = load_facts(engine.info, engine.stats())
    assert load["Time to first token"] == load["Prefix cache"] == load["Speculative decoding"] == "none yet"
    assert cuda_graphs(engine.info) == "none: they need a GPU, and this engine runs on cpu"


def test_captured_graphs_are_described(engine: ScriptedEngine) -> None:
    captured = replace(
        engine.info, device="cuda:0", graph_batch_sizes=(1, 2, 4), graph_capture_s=2.5, graph_bytes=1_234_000_000
    )
    assert cuda_graphs(captured) == "for 3 batch sizes up to 4, captured in 2.50 s, 1.23 GB"
    assert cuda_graphs(replace(engine.info, device="cuda:0", graph_note="turned off")) == "none: turned off"


def test_the_load_is_the_engines(engine: ScriptedEngine) -> None:
    engine.generate(["hi", "hi"], SamplingParams(max_tokens=3))
    load = load_facts(engine.info, engine.stats())
    assert load["Running"] == "0 of at most 4"
    assert load["Requests"] == "2 finished, 0 aborted"
    assert load["Tokens"] == "6 generated, 4 read in prompts"
    assert load["Prefix cache"] == "50.0 % of the prompt tokens were there already"
    assert load["Time to first token"].endswith("(of the last 2)")


def test_figures_are_written_with_their_unit() -> None:
    assert [duration(0.0123), duration(1.5)] == ["12.3 ms", "1.50 s"]
    shown = quantiles(Latency(count=1000, p50=0.1, p95=0.25, maximum=2))
    assert shown == "median 100.0 ms, 95 % 250.0 ms, longest 2.00 s (of the last 1,000)"


def test_the_page_is_markup_only_where_it_says_so(engine: ScriptedEngine) -> None:
    info = replace(engine.info, licence="<script>", model_name="<i>")
    page = heading_html(info) + facts_html(info) + load_html(info, engine.stats(), ())
    assert not any(tag in page for tag in ("<script>", "<i>", "<b>"))
    assert "\n" not in page  # a blank line would end the HTML block in Markdown


def test_the_plot_says_in_words_what_it_shows(engine: ScriptedEngine) -> None:
    samples = [LoadSample(0.0, None, 0, 0, 0), LoadSample(300.0, 40.0, 1, 0, 80), LoadSample(600.0, 10.0, 1, 0, 100)]
    page = load_html(engine.info, engine.stats(), samples)
    assert 'aria-label="Tokens per second of scripted-engine over the last 10 minutes: now 10.0, at most 40.0"' in page
    assert '<polyline points="300,20.0 600,80.0"/>' in page  # the axis ends at 50
    assert "no sample yet" in load_html(engine.info, engine.stats(), samples[:1])


def test_a_closed_engine_is_said_to_be(engine: ScriptedEngine) -> None:
    assert 'role="alert"' in load_html(engine.info, None, ())

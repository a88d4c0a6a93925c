"""What the results page says of GPUs: figures where there are some, and plainly that there are none where not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gpu_results import measured

from evals.bench_engine.page import render as render_engine
from evals.bench_engine.plots import LATENCY, ROOFLINE
from evals.bench_engine.results import write_report as write_engine
from evals.errors import EvaluationError
from evals.report import write_report

KERNELS = {
    "device": {"name": "NVIDIA H200"},
    "copy_bytes_per_s": 4e12,
    "rows": [
        {
            "name": "gemv 1",
            "seconds": 1e-5,
            "reference_seconds": 2e-5,
            "num_bytes": 30_000_000,
            "problem": None,
            "peers": [],
        }
    ],
}


def test_nothing_is_measured_and_the_page_says_so(tmp_path: Path) -> None:
    names = {path.relative_to(tmp_path).as_posix() for path in write_report(tmp_path)}
    assert not any(name.startswith("bench/") for name in names)
    for name in ("README.md", "index.html"):
        text = (tmp_path / name).read_text()
        section = text.partition("On a GPU")[2]
        assert "Nothing of the engine has been measured on a GPU yet" in section
        assert "No kernel has been timed on a GPU yet" in section


def test_bars_kernels_and_pictures(tmp_path: Path) -> None:
    report = measured()
    write_engine(report, tmp_path / "bench")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "bench.json").write_text(json.dumps(KERNELS))
    written = {path.relative_to(tmp_path).as_posix() for path in write_report(tmp_path)}
    assert {f"bench/{LATENCY}", f"bench/{ROOFLINE}", "bench/engine.md"} <= written
    assert (tmp_path / "bench" / "engine.md").read_text() == render_engine(report)
    page = (tmp_path / "README.md").read_text().partition("## On a GPU")[2]
    assert "The engine on one NVIDIA H200, bfloat16, torch 2.11.0." in page
    assert "against the floor by the copy's speed | **88.9 %** |" in page
    assert "MPT-7B: failed, RuntimeError" in page
    assert f"[{LATENCY}](bench/{LATENCY})" in page
    assert "| gemv 1 | 10.0 | 75% | 2.00 |" in page
    html = (tmp_path / "index.html").read_text().partition("On a GPU")[2]
    assert html.count('<figure class="picture">') == 2
    assert "<img" not in html, "the page loads nothing"
    assert "88.9 %" in html
    before = {name: (tmp_path / name).read_bytes() for name in written}
    write_report(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in written} == before


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "engine.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"engine\.json cannot be read"):
        write_report(tmp_path)

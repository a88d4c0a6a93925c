"""`results/bench/engine.md`, rendered from the report alone: the same report gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from evals.bench_engine.bars import Bar, bars, gate_lines, why_not
from evals.bench_engine.plots import LATENCY, ROOFLINE, plots
from evals.bench_engine.results import Figure, Report, Section
from evals.bench_engine.sections import (
    BATCHED,
    COMPILED,
    DECODE,
    EAGER,
    GRID,
    LLAMA,
    MIXED,
    MPT,
    NO_GRAPHS,
    PREFILL,
    ROOFS,
    SECTIONS,
    SPARSE,
    TTFT,
    plan_of,
)
from evals.whole_files import write_whole

PAGE = "engine.md"
TITLE = """# The engine on a GPU

Written by `python -m evals.bench_engine` from `engine.json`; change nothing here by hand.
"""
METHOD = """## Method

- **Weights** are random, of the published shapes, made on the device; Hugging Face's model is filled by the same
  function and has the same fingerprint. Random weights leave half of Persimmon's neurons at 0: what is compared with a
  floor or a peer reads all of the second matrix (*dense*).
- **Gate** before any time is taken: logits of our kernels and of Hugging Face may differ from float32's by 1.5 times
  what the definition in the same dtype does; greedy tokens (together, alone, with graphs and without) must be float32's
  most probable ones, or fall short by at most 6 deviations of our logits: a tie. A section whose gate failed has no
  figures.
- **Floor** all bytes that a step must read (weights but for the input embedding, keys, values) at the speed of a copy
  measured in the same run. A *bare* step is a captured one, replayed again and again; *engine* is the median time
  between two steps of the engine, with scheduling, decoding of text and delivery, in which all answers got a token.
- **Zeros** biases that leave a stated share of neurons at 0, others for each token; *live* is what the engine's counter
  found of rows live for any answer of the step.
- **Peers** `generate`'s time of a token is that of a long answer less a short one's. `generate_batch` is transformers'
  continuous batching, given the same requests with the same numbers of tokens.
"""


def render(report: Report) -> str:
    """The page of one report."""
    machine = ", ".join(
        f"{value} {unit}".strip()
        for value, unit in (
            (report.machine.get("gpu") or "no GPU", ""),
            (report.machine.get("gpu_memory_gib"), "GiB"),
            (report.machine.get("processor"), ""),
            (report.machine.get("cores"), "cores"),
            (report.machine.get("memory_gib"), "GiB"),
        )
        if value is not None
    )
    libraries = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    parts = [TITLE, f"**Machine** {machine}. {libraries}. **Weights** {report.dtype}, shapes {report.size}.\n"]
    if report.size != "full":
        parts.append("**Small shapes: this shows that everything runs and measures nothing.**\n")
    parts += [
        _roofs(report.section(ROOFS)),
        "## Bars\n\n" + bars_table(bars(report), judged=report.size == "full"),
        _gate(report),
    ]
    parts += [_decode(report), _sparse(report.section(SPARSE)), _prompts(report), _throughput(report)]
    parts += [_graphs(report.section(NO_GRAPHS)), _others(report), _absent(report), METHOD]
    return "\n".join(part for part in parts if part)


def write_page(report: Report, folder: Path) -> Path:
    """Render and write the page and its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (LATENCY, ROOFLINE):
        (folder / name).unlink(missing_ok=True)
    for name, text in plots(report).items():
        (folder / name).write_text(text, encoding="utf-8")
    return write_whole(folder / PAGE, render(report))


def bars_table(rows: Iterable[Bar], *, judged: bool = True) -> str:
    """The bars with what was reached; not `judged` where it was small shapes that reached it."""
    cells = []
    for bar in rows:
        sign = "≤" if bar.less_is_better else "≥"
        cells.append(
            [
                bar.measure,
                "" if bar.value is None else f"**{_amount(bar.value, bar)}**",
                f"{sign} {_amount(bar.must, bar)}",
                "" if bar.aim is None else f"{sign} {_amount(bar.aim, bar)}",
                bar.verdict if judged else "",
                bar.reason or "",
            ]
        )
    return table(["measure", "reached", "must", "aim", "", "why there is no figure"], cells)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _amount(value: float, bar: Bar) -> str:
    return f"{100 * value:.1f} %" if bar.is_share else f"{value:.2f}×"


def _roofs(section: Section) -> str:
    copy, product = section.figure("copy"), section.figure("product")
    if copy is None or product is None or copy.value is None or product.value is None:
        return f"Roofs: {why_not(section)}.\n"
    datasheet = section.figure("datasheet")
    peak = "" if datasheet is None or datasheet.value is None else f"; the datasheet says {datasheet.value / 1e12:,.0f}"
    return (
        f"A copy moved {copy.value / 1e9:,.0f} GB/s, a product of large matrices ran at {product.value / 1e12:,.3g} "
        f"TFLOP/s{peak}.\n"
    )


def _gate(report: Report) -> str:
    return "## Gate\n\n" + "\n".join(f"- {line}." for line in gate_lines(report)) + "\n"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _decode(report: Report) -> str:
    """Every batch and context of both sections: bare, through the engine, and the floor."""
    found: dict[tuple[int, int], dict[str, Figure]] = {}
    for section in (DECODE, GRID):
        for one in report.section(section).figures:
            if one.batch is not None and one.context is not None:
                found.setdefault((one.batch, one.context), {}).setdefault(one.name, one)
    rows = []
    for (batch, context), figures in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        engine, bare = figures.get("step"), figures.get("bare step")
        best = engine if engine is not None and engine.value is not None else bare
        roof = None if best is None else best.roof
        engine_s, bare_s = (None if one is None else one.value for one in (engine, bare))
        rows.append(
            [
                f"{context:,}",
                f"{batch}",
                _ms(bare_s),
                _ms(engine_s),
                _ms(roof),
                "" if roof is None or bare_s is None else f"{roof / bare_s:.1%}",
                "" if roof is None or engine_s is None else f"{roof / engine_s:.1%}",
                "" if bare_s is None or engine_s is None else f"{engine_s / bare_s - 1:.1%}",
                f"{batch / engine_s:,.0f}" if engine_s else f"{batch / bare_s:,.0f}" if bare_s else "",
                "; ".join(dict.fromkeys(one.problem for one in figures.values() if one.problem)),
            ]
        )
    if not rows:
        return f"## Decoding\n\n{why_not(report.section(DECODE))}.\n"
    heads = [
        "context",
        "answers",
        "bare, ms",
        "engine, ms",
        "floor, ms",
        "bare of floor",
        "engine of floor",
        "engine over bare",
        "tokens/s",
        "why there is no figure",
    ]
    pictures = "".join(f"\n![{name}]({name})\n" for name in plots(report))
    return "## Decoding\n\nOne step, dense, by context and answers at once.\n\n" + table(heads, rows) + pictures


def _sparse(section: Section) -> str:
    rows = []
    for one in section.figures:
        dense = one.more.get("dense_s")
        rows.append(
            [
                f"{float(one.name.removeprefix('zeros ')):.0%}",
                f"{one.batch}",
                f"{one.more['live']:.1%}",
                f"{one.more['live_if_independent']:.1%}",
                _ms(one.value),
                _ms(dense),
                "" if one.value is None or dense is None else f"{dense / one.value:.2f}",
                one.problem or "",
            ]
        )
    if not rows:
        return f"## Exact sparse MLP\n\n{why_not(section)}.\n"
    heads = [
        "zeros",
        "answers",
        "live",
        "if independent",
        "skipping, ms",
        "dense, ms",
        "times",
        "why there is no figure",
    ]
    return "## Exact sparse MLP\n\nBare steps with the same weights but for the biases.\n\n" + table(heads, rows)


def _prompts(report: Report) -> str:
    section, first = report.section(PREFILL), report.section(TTFT)
    rows = [
        [
            f"{one.context:,}",
            _ms(one.value),
            f"{float(one.more['flops']) / one.value / 1e12:,.3g}",
            "" if one.roof is None else f"{one.roof / one.value:.1%}",
            f"{float(one.more['of_product']):.1%}",
            f"{(one.context or 0) / one.value:,.0f}",
        ]
        for one in sorted(section.figures, key=lambda one: one.context or 0)
        if one.value is not None
    ]
    text = "## Prompts\n\n"
    if rows:
        heads = ["tokens", "ms to the first token", "TFLOP/s", "MFU", "of the product", "tokens/s"]
        text += table(heads, rows)
    else:
        text += f"{why_not(section)}.\n"
    for one in first.figures:
        if one.value is not None:
            text += f"\nTime to first token, {one.context:,} tokens, median: {_ms(one.value)} ms.\n"
    return text


def _throughput(report: Report) -> str:
    rows = []
    for name in (MIXED, BATCHED):
        section = report.section(name)
        figure = next((one for one in section.figures if one.name == "throughput" and one.value is not None), None)
        title = "ours" if name == MIXED else plan_of(name).title
        if figure is None or figure.value is None:
            rows.append([title, "", "", why_not(section)])
        else:
            rows.append([title, f"{figure.value:,.0f}", f"{figure.more['seconds']:.1f}", ""])
    count = next((one.batch for one in report.section(MIXED).figures), None)
    title = "## Mixed requests" if count is None else f"## {count} mixed requests"
    return f"{title}\n\n" + table(["", "generated tokens/s", "seconds", "why there is no figure"], rows)


def _graphs(section: Section) -> str:
    rows = []
    for one in section.figures:
        if one.name == "step with graphs" and one.value is not None:
            other = section.figure("step without graphs", batch=one.batch, context=one.context)
            if other is not None and other.value is not None:
                rows.append(
                    [
                        f"{one.batch}",
                        f"{one.context:,}",
                        _ms(one.value),
                        _ms(other.value),
                        f"{other.value / one.value:.2f}",
                    ]
                )
    if not rows:
        return f"## CUDA graphs\n\n{why_not(section)}.\n"
    return "## CUDA graphs\n\nThe engine's steps, zeros skipped.\n\n" + table(
        ["answers", "context", "with, ms", "without, ms", "times"], rows
    )


def _others(report: Report) -> str:
    rows = []
    for name in (EAGER, COMPILED, LLAMA, MPT):
        section = report.section(name)
        figures = [one for one in section.figures if one.name == "step" and one.value is not None]
        if not figures:
            rows.append([plan_of(name).title, "", "", "", "", why_not(section)])
        for one in figures:
            share = "" if one.roof is None or one.value is None else f"{one.roof / one.value:.1%}"
            rows.append([plan_of(name).title, f"{one.batch}", f"{one.context:,}", _ms(one.value), share, ""])
    heads = ["", "answers", "context", "ms a step", "of its floor", "why there is no figure"]
    return "## Peers and other models\n\n" + table(heads, rows)


def _absent(report: Report) -> str:
    rows = []
    for plan in SECTIONS:
        section = report.section(plan.name)
        seconds = "" if section.seconds is None else f"{section.seconds:.0f}"
        rows.append([plan.title, section.status, seconds, section.reason or ""])
    return "## Sections\n\n" + table(["section", "status", "seconds", "reason"], rows)

"""`results/bench/cpu.md`, rendered from the report alone: the same report gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from evals.bench.cells import count, mebibytes, milliseconds, number, table
from evals.bench.page_vllm import VLLM, beside_vllm
from evals.bench.results import GapMeasurement, Limit, Measurement, Report
from evals.errors import EvaluationError

PAGE = "cpu.md"

TITLE = """# Benchmark on a CPU

Written by `make bench-cpu` (`python -m evals.bench`) from `cpu.json`; change nothing here by hand.
"""

METHOD = f"""## Method

- **Gate** before any timing, and again in every round, the results of both sides are compared: greedy tokens the same
  (or apart only where Hugging Face's own logits, without padding, are tied to within 1e-4; counted as ties),
  log-likelihoods within 1e-4 (of texts of thousands of tokens within 1e-6 of the value), greedy flags and chosen
  answers the same. Otherwise the measurement is refused.
- **Runs** each in a process of its own, never two at once, ours and the peer in turn; medians over the rounds. A run
  loads the model, warms up on other requests, and is timed on requests it has not seen, so that our prefix cache helps
  only within a run. Loading is not timed; tokenizing is, on both sides. Python's garbage is collected before the clock
  starts: it takes 0.2 s after so many imports.
- **Ours** is opened with its defaults (but the KV cache: it holds the work, or 12 prompts of a generative
  one), through `model.interface`; scoring and answers go through our lm-eval adapter.
- **Peers** run in fp32 with the same number of threads, at the fastest of the settings tried (listed below), each
  tried on the whole work: batch size first, then attention (sdpa, eager), then the order of the requests. Hugging
  Face's batches are static and padded on the left; one runs until its longest answer is done, and tokens beyond a
  request's own count are not counted. lm-eval sorts by length itself and keeps its one-token cache;
  its `auto` is 64 on a CPU, so 64 stands for it. torch.compile is used by neither side.
{VLLM}
- **Memory** is what is resident in a run's process (Linux `VmHWM`, set back when the model is loaded). *On top* is the
  highest value less that of the loaded model, whose weights have been read once; *peak* is the highest value itself.
  The peer's is at its fastest setting.
- **Limit** the least time anybody could need on this machine: the weights' bytes (all but the input embedding) once
  a step at the bandwidth measured over as many bytes (a small model's stay in the cache), or the multiplications with
  weights, every distinct prefix once, at the measured fp32 rate, whichever is more. Attention and the KV cache are left
  out of it. Where it is reading the share is the MBU; where it is arithmetic, the MFU of the work that is needed.
"""


def render(report: Report) -> str:
    """The page of one report."""
    parts = [TITLE, _machine(report), _verdict(report)]
    speed = [one for one in report.measurements if one.limit is not None]
    memory = [one for one in report.measurements if one.limit is None]
    if report.refusals:
        rows = [[f"`{one.name}`", one.checkpoint, one.reason] for one in report.refusals]
        parts.append("## Refused\n\n" + table(["measurement", "checkpoint", "why"], rows))
    if speed:
        parts += ["## Speed\n\n" + _ratios(speed), _missed(speed), _work(speed), "## Memory\n\n" + _memory(speed)]
    if memory:
        parts += ["## Memory of scoring\n\n" + _ratios(memory), _missed(memory), _work(memory)]
    parts.append(beside_vllm(report.measurements))
    if report.gaps:
        parts.append(_gaps(report.gaps))
    if speed:
        parts += [_limits(report, speed), _trials(speed)]
    parts.append(METHOD)
    return "\n".join(part for part in parts if part)


def write_page(report: Report, folder: Path) -> Path:
    """Render and write the page.

    Raises:
        EvaluationError: it cannot be written.
    """
    path = folder / PAGE
    try:
        path.write_text(render(report), encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}): choose another --output") from None
    return path


def _machine(report: Report) -> str:
    machine = report.machine
    shown = {
        *(one.checkpoint for one in report.measurements),
        *(one.checkpoint for one in report.gaps),
        *(one.checkpoint for one in report.refusals),
    }
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"**Machine** {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"{count(machine['threads'], 'thread')}. {versions}.",
        f"It read {report.roofs.bytes_per_s / 1e9:.1f} GB/s of memory and computed "
        f"{report.roofs.operations_per_s / 1e9:.0f} GFLOP/s in fp32.",
        "",
        f"**Items** {report.data}. **Rounds** {report.rounds}.",
        "",
        *(f"- `{name}`: {text}." for name, text in report.checkpoints.items() if name in shown),
    ]
    return "\n".join(lines) + "\n"


def _verdict(report: Report) -> str:
    measured = report.measurements
    reached = sum(one.ratio >= one.bar for one in measured)
    aimed = sum(one.ratio >= one.aim for one in measured)
    higher = sum(one.ours_memory.peak_bytes > one.peer_memory.peak_bytes for one in measured)
    lines = [
        f"**{reached} of {count(len(measured), 'bar')} reached**, {aimed} of them with the aim. Both sides gave the "
        f"same results; the memory peak of ours is higher in {higher}."
    ]
    if report.refusals:
        lines.append(f"**{count(len(report.refusals), 'measurement')} refused**: there is no figure to go by.")
    return "\n".join(lines) + "\n"


def _ratios(measurements: Sequence[Measurement]) -> str:
    rows = [
        [
            f"`{one.name}`",
            one.checkpoint,
            f"{number(one.ours.median)} {one.unit}",
            f"{number(one.peer_runs.median)} {one.unit}",
            f"**{one.ratio:.2f}**",
            f"{one.bar:g} / {one.aim:g}",
            _mark(one),
            f"±{50 * one.ours.spread:.0f} % / ±{50 * one.peer_runs.spread:.0f} %",
            "yes" if not one.num_ties else f"yes, {one.num_ties} tied",
        ]
        for one in measurements
    ]
    heads = [
        "measurement",
        "checkpoint",
        "ours",
        "peer",
        "times",
        "bar / aim",
        "",
        "spread ours / peer",
        "same results",
    ]
    return table(heads, rows)


def _mark(one: Measurement) -> str:
    return "aim" if one.ratio >= one.aim else "bar" if one.ratio >= one.bar else "**missed**"


def _missed(measurements: Iterable[Measurement]) -> str:
    lines = []
    for one in measurements:
        if one.ratio >= one.bar:
            continue
        most = _most(one)
        lines.append(
            f"- `{one.name}` on {one.checkpoint} misses its bar of {one.bar:g}"
            + ("." if most is None else f"; at the machine's limit it would be {most:.1f} times the peer.")
        )
    return "\n".join(lines) + "\n" if lines else ""


def _work(measurements: Iterable[Measurement]) -> str:
    lines = []
    for one in measurements:
        line = f"- `{one.name}` on {one.checkpoint}: {one.work}. Peer: {one.peer}, {one.setting}."
        lines.append(" ".join([line, *one.notes]))
    return "\n".join(lines) + "\n"


def _memory(measurements: Iterable[Measurement]) -> str:
    rows = [
        [
            f"`{one.name}`",
            one.checkpoint,
            mebibytes(one.ours_memory.extra_bytes),
            mebibytes(one.peer_memory.extra_bytes),
            mebibytes(one.ours_memory.peak_bytes),
            mebibytes(one.peer_memory.peak_bytes),
            "no" if one.ours_memory.peak_bytes <= one.peer_memory.peak_bytes else "**yes**",
        ]
        for one in measurements
    ]
    heads = ["measurement", "checkpoint", "on top, ours", "on top, peer", "peak, ours", "peak, peer", "ours higher"]
    return table(heads, rows)


def _gaps(gaps: Iterable[GapMeasurement]) -> str:
    rows = []
    for one in gaps:
        for place, run in enumerate(one.runs, start=1):
            rows.append(
                [
                    f"{one.checkpoint}, {place}",
                    milliseconds(run.alone_median),
                    milliseconds(run.alone_largest),
                    milliseconds(run.beside_median),
                    f"**{milliseconds(run.beside_largest)}**",
                    f"{run.num_tokens}",
                    f"{run.prompt_tokens:,} in {run.prompt_steps} steps",
                    milliseconds(run.prompt_alone_s),
                    milliseconds(run.prompt_beside_s),
                ]
            )
    heads = [
        "run",
        "median alone",
        "largest alone",
        "median beside",
        "largest beside",
        "stream's tokens",
        "prompt's tokens",
        "prompt alone",
        "prompt beside",
    ]
    text = (
        "## Inter-token gap\n\nA stream runs, and a prompt of thousands of tokens arrives: how long the stream waits "
        "for its next token, alone and while the prompt is read beside it. *Prompt alone* is the time to its first "
        "token with nothing else running: the stream's gap if it were read in one step. The stream's tokens are the "
        "same with and without the prompt.\n\n"
    )
    return text + table(heads, rows)


def _limits(report: Report, measurements: Iterable[Measurement]) -> str:
    rows = []
    for one in measurements:
        if one.limit is None or one.units is None:
            continue
        most = one.units / one.limit.seconds
        rows.append(
            [
                f"`{one.name}`",
                one.checkpoint,
                f"{number(most)} {one.unit}",
                _reason(one.limit),
                f"{one.ours.median / most:.0%}",
                f"{one.peer_runs.median / most:.0%}",
                f"{most / one.peer_runs.median:.1f}",
            ]
        )
    heads = ["measurement", "checkpoint", "limit", "set by", "ours", "peer", "most times the peer"]
    return "## Share of the machine's limit\n\n" + table(heads, rows)


def _reason(limit: Limit) -> str:
    if limit.is_reading:
        return f"reading weights, {limit.bytes_per_s / 1e9:.0f} GB/s"
    return "arithmetic"


def _most(one: Measurement) -> float | None:
    """How many times faster than the peer this machine could be at all."""
    if one.limit is None or one.units is None:
        return None
    return one.units / one.limit.seconds / one.peer_runs.median


def _trials(measurements: Iterable[Measurement]) -> str:
    lines = [
        f"- `{one.name}` on {one.checkpoint}: "
        + "; ".join(
            f"**{trial.setting}** {number(trial.seconds)} s"
            if trial.setting == one.setting
            else f"{trial.setting} {number(trial.seconds)} s"
            for trial in one.trials
        )
        + "."
        for one in measurements
        if one.trials
    ]
    if not lines:
        return ""
    return "## Settings of the peer\n\nEvery setting tried, with the time of the work.\n\n" + "\n".join(lines) + "\n"

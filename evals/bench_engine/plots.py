"""Two pictures as SVG, from the report alone: latency against batch, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from evals.bench_engine.results import Figure, Report
from evals.bench_engine.sections import DECODE, GRID, PREFILL, ROOFS

LATENCY, ROOFLINE = "engine-latency.svg", "engine-roofline.svg"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 78, 170, 34, 54
COLOURS = ("#0b5fa5", "#b34700", "#1f7a3a", "#7a2f8f", "#8a6d00", "#a3003c")


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour, joined or not, and a name beside the last."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: str
    joined: bool = True
    dashed: bool = False


def plots(report: Report) -> dict[str, str]:
    """Pictures by file name; none where there is nothing to show."""
    found = {LATENCY: latency(report), ROOFLINE: roofline(report)}
    return {name: text for name, text in found.items() if text}


def latency(report: Report) -> str:
    """A captured step's time against the number of answers, a line for each context, with its floor."""
    steps = _bare_steps(report)
    series = []
    for index, context in enumerate(sorted({one.context or 0 for one in steps})):
        mine = sorted((one for one in steps if one.context == context), key=lambda one: one.batch or 0)
        colour = COLOURS[index % len(COLOURS)]
        series.append(
            Series(f"{context:,} tokens", tuple((float(one.batch or 0), 1e3 * _value(one)) for one in mine), colour)
        )
        floors = tuple((float(one.batch or 0), 1e3 * one.roof) for one in mine if one.roof is not None)
        series.append(Series("", floors, colour, dashed=True))
    return _picture(
        series, title="A step of all answers, by the tokens of context; dashed: its floor", x="answers at once", y="ms"
    )


def roofline(report: Report) -> str:
    """Operations a second against operations a byte: captured steps and prompts under the two roofs."""
    copy, product = (report.section(ROOFS).figure(name) for name in ("copy", "product"))
    if copy is None or product is None:
        return ""
    points = [
        (float(one.more["flops"]) / float(one.more["bytes"]), float(one.more["flops"]) / _value(one))
        for one in _bare_steps(report)
        if "flops" in one.more
    ]
    prompts = [
        (float(one.more["flops"]) / float(one.more["bytes"]), float(one.more["flops"]) / _value(one))
        for one in report.section(PREFILL).figures
        if one.value is not None and "bytes" in one.more
    ]
    if not points and not prompts:
        return ""
    bytes_per_s, flops_per_s = _value(copy), _value(product)
    least = min(x for x, _ in points + prompts) / 2
    most = max(max(x for x, _ in points + prompts) * 2, 2 * flops_per_s / bytes_per_s)
    roof = tuple((x, min(x * bytes_per_s, flops_per_s) / 1e12) for x in (least, flops_per_s / bytes_per_s, most))
    series = [
        Series("what was measured", roof, "#444444"),
        Series("steps", tuple((x, y / 1e12) for x, y in points), COLOURS[0], joined=False),
        Series("prompts", tuple((x, y / 1e12) for x, y in prompts), COLOURS[1], joined=False),
    ]
    return _picture(series, title="Roofline: copy and product of this run", x="operations a byte", y="TFLOP/s")


def _bare_steps(report: Report) -> list[Figure]:
    """Of both sections that have some, each batch and context once."""
    found: dict[tuple[int | None, int | None], Figure] = {}
    for section in (GRID, DECODE):
        for one in report.section(section).figures:
            if one.name == "bare step" and one.value is not None:
                found.setdefault((one.batch, one.context), one)
    return list(found.values())


def _value(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def _picture(series: Sequence[Series], *, title: str, x: str, y: str) -> str:
    """A chart with logarithmic axes; empty without points."""
    shown = [one for one in series if one.points]
    if not shown:
        return ""
    xs, ys = ([point[axis] for one in shown for point in one.points] for axis in (0, 1))
    across = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _scale(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" fill="#222222" font-weight="600">{escape(title)}</text>',
    ]
    for value in _ticks(min(xs), max(xs)):
        at = across(value)
        lines.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e2e2e2"/>')
        text = f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#444444">'
        lines.append(f"{text}{_short(value)}</text>")
    for value in _ticks(min(ys), max(ys)):
        at = up(value)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e2e2e2"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#444444">{_short(value)}</text>')
    lines.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle" fill="#222222">'
        f"{escape(x)}</text>"
    )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    lines.append(
        f'<text transform="translate(20 {middle:.0f}) rotate(-90)" text-anchor="middle" fill="#222222">'
        f"{escape(y)}</text>"
    )
    for one in shown:
        places = [(across(a), up(b)) for a, b in one.points]
        if one.joined:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            dashes = ' stroke-dasharray="5 4"' if one.dashed else ""
            lines.append(f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2"{dashes}/>')
        if not one.dashed:
            lines += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{one.colour}"/>' for a, b in places]
        if one.name:
            a, b = places[-1]
            lines.append(f'<text x="{a + 8:.1f}" y="{b + 4:.1f}" fill="{one.colour}">{escape(one.name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    if low == high:
        low, high = low / 2, high * 2
    bottom, top = math.log(low), math.log(high)
    return lambda value: begin + (math.log(value) - bottom) / (top - bottom) * (end - begin)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the bounds; more than ten are thinned to the powers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found = [
        factor * 10.0**power
        for power in range(first, last + 1)
        for factor in (1, 2, 5)
        if low * 0.999 <= factor * 10.0**power <= high * 1.001
    ]
    return found if len(found) <= 10 else [value for value in found if f"{value:e}".startswith("1.0")]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.3g}"

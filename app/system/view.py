"""The System page's HTML: of each model a heading, its load, which follows the engine, and facts, which stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from app.system.facts import engine_facts, load_facts, model_facts, versions
from app.system.history import EVERY_S, KEPT_S, LoadSample
from model.interface import EngineInfo, EngineStats

HEIGHT = 100  # of the plot, in units of its own


def heading_html(info: EngineInfo) -> str:
    """The model's name, and its notice if there is one."""
    notice = "" if info.notice is None else f'<p class="notice" role="note">{escape(info.notice)}</p>'
    return f"<h2>{escape(info.model_name)}</h2>{notice}"


def facts_html(info: EngineInfo) -> str:
    """What does not change while the engine runs."""
    return (
        f'<div class="fact-columns">{_table("Model", model_facts(info))}{_table("Engine", engine_facts(info))}'
        f"{_table('Versions', versions(info))}</div>"
    )


def load_html(info: EngineInfo, stats: EngineStats | None, samples: Sequence[LoadSample]) -> str:
    """What changes.

    Args:
        stats: `None` once the engine is closed.
    """
    if stats is None:
        return '<p role="alert">This engine takes no more requests: see the server\'s log and start it again.</p>'
    return (
        f'<div class="fact-columns">{_table("Load", load_facts(info, stats))}<div>{_plot(info.model_name, samples)}'
        f"{_blocks(stats)}</div></div>"
    )


def _table(title: str, facts: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in facts.items()
    )
    return f"<div><h3>{title}</h3><table><tbody>{rows}</tbody></table></div>"


def _blocks(stats: EngineStats) -> str:
    in_use, usable = stats.num_usable_blocks - stats.num_free_blocks, stats.num_usable_blocks
    return (
        f'<figure class="load-plot"><figcaption>KV blocks in use: {in_use:,} of {usable:,}</figcaption>'
        f'<meter min="0" max="{max(usable, 1)}" value="{in_use}" aria-label="KV blocks in use"></meter></figure>'
    )


def _plot(name: str, samples: Sequence[LoadSample]) -> str:
    """Generated tokens a second over the last ten minutes, now at the right."""
    rates = [(sample.time_s, sample.tokens_per_s) for sample in samples if sample.tokens_per_s is not None]
    if not rates:
        return '<figure class="load-plot"><figcaption>Tokens per second: no sample yet</figcaption></figure>'
    now, latest = rates[-1]
    highest = max(rate for _, rate in rates)
    top = _round_up(highest)
    points = " ".join(f"{KEPT_S - (now - time):.0f},{HEIGHT * (1 - rate / top):.1f}" for time, rate in rates)
    said = f"now {latest:,.1f}, at most {highest:,.1f}"
    return (
        f'<figure class="load-plot"><figcaption>Tokens per second: {said}</figcaption>'
        f'<div class="frame"><span class="top" aria-hidden="true">{top:g}</span>'
        f'<svg role="img" aria-label="Tokens per second of {escape(name)} over the last {KEPT_S / 60:.0f} minutes: '
        f'{said}" viewBox="0 0 {KEPT_S:.0f} {HEIGHT}" preserveAspectRatio="none">'
        f'<polyline points="{points}"/></svg></div><div class="axis" aria-hidden="true"><span>10 minutes ago</span>'
        f"<span>now</span></div><p>Sampled every {EVERY_S:g} s, for all requests together.</p></figure>"
    )


def _round_up(number: float) -> float:
    """The next of 1, 2, 5, 10, 20, ...: where the plot's axis ends."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if number <= factor * step:
                return factor * step
        step *= 10

"""The peer's fastest setting, found one choice after the other: batch size, then attention, then order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from evals.bench.settings import Choices, Setting


def tune(seconds: Callable[[Setting], float], choices: Choices) -> dict[Setting, float]:
    """Time settings, each once.

    Args:
        seconds: how long the work takes with a setting.

    Returns:
        Every setting tried, in order, with its time.
    """
    tried: dict[Setting, float] = {}

    def best() -> Setting:
        return min(tried, key=tried.__getitem__)

    def attempt(setting: Setting) -> None:
        if setting not in tried:
            tried[setting] = seconds(setting)

    attempt(choices.start())
    for batch_size in choices.batch_sizes:
        attempt(replace(choices.start(), batch_size=batch_size))
    start = best()
    for attention in choices.attentions:
        attempt(replace(start, attention=attention))
    start = best()
    for order in choices.orders if start.batch_size > 1 else ():
        attempt(replace(start, order=order))
    return tried

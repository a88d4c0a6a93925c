"""The colours of probabilities: readable, and told apart by lightness alone."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

import app.tokens.view

LEVELS = len(app.tokens.view.LEVELS)
STYLE = Path(app.tokens.view.__file__).with_name("style.css").read_text()
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, for texts of this size


def colours(theme: str) -> dict[str, str]:
    (block,) = re.findall(rf"^{re.escape(theme)} \{{\s*(--level[^}}]*)\}}", STYLE, re.MULTILINE)
    return dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", block))


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["#tokens", ".dark #tokens"])
def test_texts_are_readable_on_every_colour(theme: str) -> None:
    found = colours(theme)
    for place in range(LEVELS):
        assert contrast(found[f"level-{place}"], found[f"on-level-{place}"]) >= LEAST_CONTRAST


@pytest.mark.parametrize("theme", ["#tokens", ".dark #tokens"])
def test_lightness_alone_tells_the_levels_apart(theme: str) -> None:
    found = colours(theme)
    levels = [found[f"level-{place}"] for place in range(LEVELS)]
    assert all(contrast(one, other) > 1.2 for one, other in pairwise(levels))
    lightness = [luminance(one) for one in levels]
    assert lightness in (sorted(lightness), sorted(lightness, reverse=True))

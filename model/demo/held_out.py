"""Decide by a seeded hash what never appears in training.

The decision depends on nothing but the words of the key, so the corpus generator, the benchmark items and the tests
agree without sharing a file, and adding a fact does not move another fact to the other side.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

SPLIT_SEED: Final = 20230907
"""The day Persimmon-8B was announced; any number would do."""

HELD_OUT_SHARE: Final[Mapping[str, float]] = {
    "arithmetic": 0.15,
    "calendar": 0.15,
    "capitals": 0.15,
    "categories": 0.15,
    "which": 0.15,
    "opposites": 0.15,
    "colours": 0.15,
    "counting": 0.15,
    "sentiment": 0.15,
    "smalltalk": 0.10,
    "coreference": 0.15,
    "code": 0.15,
}
"""Share of the keys of each skill that is kept from training (dimensionless, 0 to 1)."""


def fraction(text: str) -> float:
    """Map ``text`` to a number in [0, 1) that looks random but never changes.

    BLAKE2b of the split seed and the text, first eight bytes, divided by 2**64.
    """
    digest = hashlib.blake2b(f"{SPLIT_SEED}/{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_held_out(skill: str, key: str) -> bool:
    """Tell whether the fact, combination or phrasing ``key`` of ``skill`` is kept from training.

    Raises:
        KeyError: ``skill`` is not one of ``HELD_OUT_SHARE``.
    """
    return fraction(f"{skill}/{key}") < HELD_OUT_SHARE[skill]

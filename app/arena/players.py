"""Who is compared: a model with a way of sampling from it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass

SAMPLING_VALUES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""What belongs to a player; prefix, limit and stop strings are the same for both sides of a comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Player:
    """What is ranked. The same name with other weights, rotary positions or sampling values is another player.

    Attributes:
        model, weights_sha256, rope_position_dtype: of `EngineInfo`. setting: the name of the sampling values.
    """

    model: str
    setting: str
    weights_sha256: str
    rope_position_dtype: str
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float

    @property
    def key(self) -> str:
        """The same text for the same player, for a database."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_key(cls, key: str) -> Player:
        """Undoes `key`."""
        return cls(**json.loads(key))


def labels(players: Iterable[Player]) -> dict[Player, str]:
    """A short name for each, such as `persimmon-demo · Greedy`; where two would share one, with what tells them
    apart."""
    by_name: dict[str, set[Player]] = defaultdict(set)
    for player in players:
        by_name[f"{player.model} · {player.setting}"].add(player)
    found = {}
    for name, namesakes in by_name.items():
        for player in namesakes:
            found[player] = " ".join([name, *_distinctions(player, namesakes)])
    return found


def _distinctions(player: Player, namesakes: set[Player]) -> list[str]:
    parts = []
    if len({one.weights_sha256 for one in namesakes}) > 1:
        parts.append(f"(weights {player.weights_sha256[:8]})")
    if len({one.rope_position_dtype for one in namesakes}) > 1:
        parts.append(f"({player.rope_position_dtype} positions)")
    if len({tuple(getattr(one, name) for name in SAMPLING_VALUES) for one in namesakes}) > 1:
        parts.append(f"({', '.join(f'{name} {getattr(player, name):g}' for name in SAMPLING_VALUES)})")
    return parts

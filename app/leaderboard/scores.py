"""The scores of `results/leaderboard.json`, which `make results` writes, and what of them is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.interface import InvalidRequest

NAME = "leaderboard.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One model's score of one task by one metric. All values are those of the report.

    Attributes:
        board: in words, what is comparable: a suite over one source of items. is_demo: whether the items were invented
            for this project.
        column: the benchmark. told: in words, what tells the row from others of the same model.
        prompts: `raw` or `chat: <format>`.
        score, low, high: fractions of 1, with the 95 % interval's ends; `None` where undefined. n: items scored.
        chance: the share right by guessing; `None` where there are no choices.
        warnings: what makes the score suspect. notice: what the model says about itself.
        run: whose items it is of. has_items: whether they were kept.
    """

    board: str
    suite: str
    is_demo: bool
    column: str
    benchmark: str
    task: str
    model: str
    prompts: str
    backend: str | None
    dtype: str | None
    rotary: str | None
    weights_sha256: str | None
    chance: float | None
    unreadable: int | None
    truncated: int | None
    failed: int
    warnings: tuple[str, ...]
    notice: str | None
    run: str
    started: str
    has_items: bool
    told: str
    metric: str
    score: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def setting(self) -> str:
        """How the answers came about."""
        parts = (self.prompts, self.backend, self.dtype, self.rotary and f"rotary {self.rotary}")
        return ", ".join(part for part in parts if part)

    @property
    def label(self) -> str:
        """The row's name."""
        return f"{self.model} ({self.told})" if self.told else self.model


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A figure that others published, in percent; `comparable` where it was measured as the suite `adept` is."""

    model: str
    task: str
    benchmark: str
    value: float
    shots: int | None
    protocol: str
    comparable: bool
    source: str | None
    url: str | None


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Everything the file holds, in its order."""

    scores: tuple[Score, ...]
    published: tuple[Published, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What is to be shown; an empty tuple does not choose."""

    boards: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def of(self, scores: Sequence[Score]) -> list[Score]:
        """The scores that fit."""
        return [
            score
            for score in scores
            if (not self.boards or score.board in self.boards)
            and (not self.columns or score.column in self.columns)
            and (not self.models or score.model in self.models)
            and (not self.settings or score.setting in self.settings)
        ]

    def published(self, figures: Sequence[Published]) -> list[Published]:
        """The published figures that fit; they have no board and no setting."""
        return [
            figure
            for figure in figures
            if (not self.columns or figure.benchmark in self.columns)
            and (not self.models or figure.model in self.models)
        ]


def read_leaderboard(results: Path) -> Leaderboard:
    """The file's content.

    Raises:
        InvalidRequest: there is none, or it is of another kind; the text says what to do.
    """
    path = results / NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise InvalidRequest(f"{NAME} has schema {raw['schema']}, not {SCHEMA}: run `make results`")
        scores = tuple(Score(**one | {"warnings": tuple(one["warnings"])}) for one in raw["scores"])
        return Leaderboard(scores, tuple(Published(**one) for one in raw["published"]))
    except OSError as error:
        raise InvalidRequest(
            f"{NAME} cannot be read ({error.strerror}): run `make eval`, or `make results` if there are runs"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InvalidRequest(f"{NAME} is no leaderboard: run `make results`") from None

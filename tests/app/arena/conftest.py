"""Rounds that were answered by scripted engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import pytest
from scripted_engine import ScriptedEngine

from app.arena.duel import Duel
from app.arena.round import Contestant, Round
from app.chat.settings import ChatSettings

Engines: TypeAlias = Mapping[str, ScriptedEngine]


@pytest.fixture
def engines() -> Iterator[Engines]:
    """Two models that answer at once, `alpha` and `beta`, each with its name."""
    both = {
        name: ScriptedEngine(lambda prompt, name=name: f" {name} says {len(prompt)}", model_name=name)
        for name in ("alpha", "beta")
    }
    yield both
    for engine in both.values():
        engine.close()


@pytest.fixture
def played(engines: Engines) -> Callable[..., object]:
    """Plays a round of questions to its end: `await played("one", "two", is_blind=True)`."""

    async def play(*questions: str, prefix: str = "", seed: str = "", is_blind: bool = False) -> Round:
        settings = ChatSettings(temperature=0.5, prefix=prefix, seed=seed)
        current = Round(
            contestants=(Contestant("alpha", "Greedy"), Contestant("beta", "Greedy")),
            settings=(settings, settings),
            is_blind=is_blind,
        )
        for question in questions:
            current = await answered(current.ask(question), engines)
        return current

    return play


async def answered(asked: Round, engines: Engines) -> Round:
    """The round with both answers to its last question."""
    sides = zip(asked.contestants, asked.conversations, asked.settings, strict=True)
    duel = Duel([(engines[one.model], conversation, settings) for one, conversation, settings in sides])
    async for answers in duel.updates():
        last = answers
    return asked.answered(last, duel.kept)

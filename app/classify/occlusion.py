"""What moved a decision: how far the answer changes when a word is left out (Zeiler and Fergus, arXiv:1311.2901, did so
with pictures)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from app.classify.batch import rows_in_flight
from app.classify.classifier import Classifier, Prediction
from app.classify.scoring import log_odds
from model.interface import InvalidRequest

MAX_PIECES = 64
"""A longer text is taken apart into groups of words: each piece costs a classification."""
BETWEEN_UPDATES_S = 0.5


@dataclass(frozen=True, slots=True)
class Piece:
    """A word, or several, with the blanks after it.

    Attributes:
        effect: how much higher the label's log-odds (nats; in a regression its value) are with the piece than without.
    """

    text: str
    effect: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """What moved the decision for (or against) one label."""

    label: str
    kind: str
    value: float
    pieces: tuple[Piece, ...]


async def what_moved(classifier: Classifier, text: str, label: str | None = None) -> AsyncGenerator[str | Moved]:
    """How far it is, in words, at least every half second, and last the result.

    Args:
        label: that the effects are about; `None` for the one with the highest value.

    Raises:
        InvalidRequest: the text has only one word. EngineError: the text is too long, or the engine failed.
    """
    pieces = split_pieces(text)
    if len(pieces) < 2:
        raise InvalidRequest("a text of one word has nothing that could be left out: write a longer one")
    without = ["".join(pieces[:place] + pieces[place + 1 :]) for place in range(len(pieces))]
    places = asyncio.Semaphore(rows_in_flight(classifier, max_num_requests=classifier.engine.info.max_num_requests))

    async def classify(one: str) -> Prediction:
        async with places:
            return await classifier.classify(one)

    tasks = [asyncio.ensure_future(classify(one)) for one in [text, *without]]
    try:
        while waiting := {task for task in tasks if not task.done()}:
            yield f"{len(tasks) - len(waiting)} of {len(tasks)} texts classified"
            await asyncio.wait(waiting, timeout=BETWEEN_UPDATES_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        predictions: list[Prediction] = [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    whole = predictions[0].values
    place = whole.index(max(whole)) if label is None else classifier.labels.index(label)
    scale = (lambda value: value) if classifier.kind == "regression" else log_odds
    effects = [scale(whole[place]) - scale(prediction.values[place]) for prediction in predictions[1:]]
    yield Moved(
        label=classifier.labels[place],
        kind=classifier.kind,
        value=whole[place],
        pieces=tuple(Piece(piece, effect) for piece, effect in zip(pieces, effects, strict=True)),
    )


def split_pieces(text: str) -> list[str]:
    """Words with the blanks after them, joined to at most MAX_PIECES pieces; together they are the text."""
    words = re.findall(r"^\s*\S+\s*|\S+\s*", text)
    size = -(-len(words) // MAX_PIECES)
    return ["".join(words[start : start + size]) for start in range(0, len(words), max(1, size))]

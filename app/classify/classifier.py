"""What every way of classifying has in common: one text in, one prediction out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

from model.interface import ContextLengthExceeded, Engine, Priority, Tokenizer

Kind: TypeAlias = Literal["single", "multi", "regression"]
"""One label of several; any number of labels; or numbers."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a classifier says of one text.

    Attributes:
        labels: those it chooses: one, any number, or none where it predicts numbers.
        values: one a label of the classifier, in its order: probabilities, or the numbers of a regression.
        is_cut: whether the end of the text was left out because the whole did not fit.
    """

    labels: tuple[str, ...]
    values: tuple[float, ...]
    is_cut: bool = False


class Classifier(Protocol):
    """Classifies texts, many at a time if asked from several tasks."""

    @property
    def engine(self) -> Engine: ...

    @property
    def name(self) -> str:
        """For people: what decides."""
        ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def requests_per_text(self) -> int:
        """How many requests of the engine one text makes."""
        ...

    async def classify(self, text: str, *, cut: bool = False, priority: Priority = "interactive") -> Prediction:
        """Args:
            cut: whether a text that is too long is cut at its end instead of refused.

        Raises:
            ContextLengthExceeded: the text does not fit. InvalidRequest: it cannot be asked at all.
            EngineError: the engine failed.
        """
        ...


async def ask_fitting(
    ask: Callable[[str], Awaitable[Result]], text: str, *, tokenizer: Tokenizer
) -> tuple[Result, bool]:
    """What `ask` gives for the text, or for as much of its beginning as fits; and whether it was cut.

    Raises:
        ContextLengthExceeded: not even the text's first token fits.
    """
    try:
        return await ask(text), False
    except ContextLengthExceeded as error:
        too_long = error
    token_ids = tokenizer.encode(text)
    keep = len(token_ids)
    while True:
        keep -= max(1, too_long.num_prompt_tokens - too_long.limit)
        if keep < 1:
            raise too_long
        try:  # the last token may have held only a part of a character
            return await ask(tokenizer.decode(token_ids[:keep]).rstrip("\ufffd")), True
        except ContextLengthExceeded as error:
            too_long = error

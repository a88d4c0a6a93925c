"""One round of the arena as plain data: who stands where, what was asked and answered, and what was thought of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from random import Random

from app.arena.duel import KeptPair, Pair
from app.arena.vote import KeptAnswer, KeptSide, Verdict, Vote, kept_side
from app.chat.conversation import Conversation
from app.chat.settings import ChatSettings
from model.interface import Engine, InvalidRequest


@dataclass(frozen=True, slots=True)
class Choice:
    """A contestant as chosen on the page; `model` is `None` for any."""

    model: str | None
    setting: str


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model and the name of its sampling values."""

    model: str
    setting: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """A comparison from its first question to its vote; every step gives a new one.

    Attributes:
        contestants: of side A and side B. settings: theirs; prefix, limit, seed and stop strings are the same.
        conversations: one a side, with the same questions. kept: each side's answers that ended, for the record.
        is_blind: whether names are hidden until the vote. is_swapped: whether the second chosen stands on side A.
        verdict: `None` before the vote. identity: the same for all that one round was and will be.
    """

    contestants: tuple[Contestant, Contestant]
    settings: tuple[ChatSettings, ChatSettings]
    conversations: tuple[Conversation, Conversation] = (Conversation(), Conversation())
    kept: tuple[tuple[KeptAnswer, ...], tuple[KeptAnswer, ...]] = ((), ())
    is_blind: bool = False
    is_swapped: bool = False
    verdict: Verdict | None = None
    identity: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def has_failed(self) -> bool:
        """Whether a side's last answer ended without one: that says nothing of its model, so there is no vote."""
        return any(
            conversation.turns
            and (answer := conversation.turns[-1].answer) is not None
            and answer.is_final
            and len(kept) < len(conversation.turns)
            for conversation, kept in zip(self.conversations, self.kept, strict=True)
        )

    @property
    def is_open(self) -> bool:
        """Whether a further question belongs to this round."""
        return self.verdict is None and not self.has_failed

    @property
    def shows_names(self) -> bool:
        """Whether it may be seen who stands where."""
        return not (self.is_blind and self.is_open)

    @property
    def is_votable(self) -> bool:
        """Whether a vote can be given now."""
        try:
            self.check_votable()
        except InvalidRequest:
            return False
        return True

    def ask(self, question: str) -> Round:
        """With one more question to both.

        Raises:
            InvalidRequest: the question is empty, or the round is over.
        """
        if not self.is_open:
            raise InvalidRequest("this round is over: start a new one")
        a, b = (conversation.ask(question) for conversation in self.conversations)
        return replace(self, conversations=(a, b))

    def answered(self, answers: Pair, kept: KeptPair = (None, None)) -> Round:
        """With these answers to the last question, and what is to be kept of those that ended."""
        a, b = (conversation.answered(answer) for conversation, answer in zip(self.conversations, answers, strict=True))
        kept_a, kept_b = (
            before if one is None else (*before, one) for before, one in zip(self.kept, kept, strict=True)
        )
        return replace(self, conversations=(a, b), kept=(kept_a, kept_b))

    def check_votable(self) -> None:
        """Raises:
        InvalidRequest: there is nothing to vote on, or no more.
        """
        if self.verdict is not None:
            raise InvalidRequest("you have voted on this round: start a new one")
        if self.has_failed:
            raise InvalidRequest("one side failed, which says nothing of its model: start a new round")
        for conversation, kept in zip(self.conversations, self.kept, strict=True):
            if not kept or len(kept) < len(conversation.turns):
                raise InvalidRequest("there is nothing to vote on yet: ask something and wait for both answers")
            if not kept[-1].token_ids:
                raise InvalidRequest("an answer was stopped before its first word: ask again, or start a new round")


def draw(
    first: Choice, second: Choice, models: Sequence[str], *, is_blind: bool, random: Random
) -> tuple[tuple[Contestant, Contestant], bool]:
    """Who stands on side A and on side B, and whether that is the other way round than chosen.

    Where any model may stand, chance chooses among the pairs of which no two are the same; in a blind round it also
    chooses the sides.

    Raises:
        InvalidRequest: both are the same.
    """
    pairs = [
        (one, other)
        for one, other in product(*(_possible(choice, models) for choice in (first, second)))
        if one != other
    ]
    if not pairs:
        raise InvalidRequest(
            "both sides are the same model with the same setting: choose another model or another setting"
        )
    a, b = random.choice(pairs)
    is_swapped = is_blind and random.random() < 0.5
    return ((b, a) if is_swapped else (a, b)), is_swapped


def _possible(choice: Choice, models: Sequence[str]) -> list[Contestant]:
    return [Contestant(model, choice.setting) for model in models if choice.model in (None, model)]


def make_vote(current: Round, verdict: Verdict, *, owner: str, engines: Mapping[str, Engine]) -> Vote:
    """The vote to be kept.

    Raises:
        InvalidRequest: there is nothing to vote on, or no more.
    """
    current.check_votable()
    a, b = (_kept(current, side, engines) for side in range(2))
    return Vote(
        id=current.identity,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        owner=owner,
        verdict=verdict,
        is_blind=current.is_blind,
        is_swapped=current.is_swapped,
        prefix=current.settings[0].prefix,
        questions=tuple(turn.question for turn in current.conversations[0].turns),
        a=a,
        b=b,
    )


def _kept(current: Round, side: int, engines: Mapping[str, Engine]) -> KeptSide:
    contestant = current.contestants[side]
    engine = engines[contestant.model]
    params = current.settings[side].sampling(engine.chat_template.stop)
    return kept_side(engine, contestant.setting, params, current.kept[side])

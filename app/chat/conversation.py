"""A conversation as plain data: every action (ask, retry, undo, edit) turns it into a new one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Literal, Self, TypeAlias

from app.chat.settings import ChatSettings
from model.interface import ChatMessage, Completion, FinishReason, InvalidRequest

Phase: TypeAlias = Literal["waiting", "reading", "writing", "done", "failed"]

LONGEST_TITLE = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an answer ended and what it took; times in seconds from its arrival at the engine, as in `Timing`.

    Attributes:
        num_prompt_tokens: tokens read, `num_cached_tokens` of them from the cache. num_tokens: tokens written.
        seed: with it and the settings the same answer comes again.
    """

    finish_reason: FinishReason
    num_prompt_tokens: int
    num_tokens: int
    seed: int
    queued_s: float
    ttft_s: float | None
    total_s: float
    num_cached_tokens: int = 0

    @classmethod
    def of(cls, completion: Completion) -> Self:
        """Of a finished request."""
        timing = completion.timing
        return cls(
            finish_reason=completion.finish_reason,
            num_prompt_tokens=completion.num_prompt_tokens,
            num_cached_tokens=completion.num_cached_tokens,
            num_tokens=len(completion.token_ids),
            seed=completion.seed,
            queued_s=timing.queued_s,
            ttft_s=timing.ttft_s,
            total_s=timing.total_s,
        )

    @property
    def tokens_per_s(self) -> float | None:
        """Decode speed: tokens after the first, over the time since the first; `None` if undefined."""
        if self.ttft_s is None or self.num_tokens < 2 or self.total_s <= self.ttft_s:
            return None
        return (self.num_tokens - 1) / (self.total_s - self.ttft_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer at one moment.

    Attributes:
        text: what is to be shown and sent back as history, without the chat format around it.
        phase: `waiting` for a free place in the engine, `reading` the prompt, `writing`, `done` (also when
            stopped) or `failed`.
        num_given: characters at the beginning of `text` that were there already, for the model to continue.
        num_tokens: tokens generated so far. elapsed_s: seconds since it was asked for.
        tokens_per_s: decode speed so far, `None` before the second token.
        place: in the engine's queue while it waits, 1 for the next.
        model: who writes it. settings: how it was asked for.
        outcome: of an answer that ended, unless it was cut before the engine could say. error: why it failed.
    """

    text: str = ""
    phase: Phase = "reading"
    num_given: int = 0
    num_tokens: int = 0
    elapsed_s: float = 0.0
    tokens_per_s: float | None = None
    place: int | None = None
    model: str = ""
    settings: ChatSettings | None = None
    outcome: Outcome | None = None
    error: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing will be added to it."""
        return self.phase in ("done", "failed")


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer; `None` while there is none."""

    question: str
    answer: Answer | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """All turns, oldest first. Actions give a new conversation; the questions they leave open are the last ones.

    Attributes:
        title: as somebody named it, or empty.
        identity: from the first question on, the same for all that one conversation was and will be.
    """

    turns: tuple[Turn, ...] = ()
    title: str = ""
    identity: str = field(default="", compare=False)

    @property
    def shown_title(self) -> str:
        """Its title, or the beginning of its first question."""
        text = self.title or (self.turns[0].question if self.turns else "") or "New conversation"
        line = " ".join(text.split())
        return line if len(line) <= LONGEST_TITLE else f"{line[: LONGEST_TITLE - 1]}…"

    def ask(self, question: str) -> Conversation:
        """With one more question.

        Raises:
            InvalidRequest: the question is empty.
        """
        if not question.strip():
            raise InvalidRequest("the message is empty: write something first")
        identity = self.identity or uuid.uuid4().hex
        return replace(self, turns=(*self.turns, Turn(question.strip())), identity=identity)

    def retry(self) -> Conversation:
        """With the last answer taken away, to be written anew.

        Raises:
            InvalidRequest: there is no answer yet.
        """
        if not self.turns:
            raise InvalidRequest("there is no answer to write again: ask something first")
        return self.answered(None)

    def undo(self) -> tuple[Conversation, str]:
        """Without the last exchange, and the question that was in it.

        Raises:
            InvalidRequest: there is nothing to take back.
        """
        if not self.turns:
            raise InvalidRequest("there is nothing to undo: the conversation is empty")
        return replace(self, turns=self.turns[:-1]), self.turns[-1].question

    def edit(self, turn: int, question: str) -> Conversation:
        """With another question in one turn, and nothing after it.

        Raises:
            InvalidRequest: there is no such turn, or the question is empty.
        """
        self._check(turn)
        return replace(self, turns=self.turns[:turn]).ask(question)

    def edit_answer(self, turn: int, text: str) -> Conversation:
        """With another answer in one turn, to be continued by the model, and nothing after it.

        Raises:
            InvalidRequest: there is no such answer, or the text is empty.
        """
        self._check(turn)
        if self.turns[turn].answer is None:
            raise InvalidRequest(f"message {turn + 1} has no answer to edit: press Retry to get one")
        if not text.strip():
            raise InvalidRequest("the answer is empty: write its beginning, or press Retry for another one")
        kept = replace(self, turns=self.turns[: turn + 1])
        return kept.answered(Answer(text=text, num_given=len(text), phase="done"))

    def continued(self) -> Conversation:
        """With the last answer as it is, to be continued by the model.

        Raises:
            InvalidRequest: there is no text to continue.
        """
        answer = self.turns[-1].answer if self.turns else None
        if answer is None or not answer.text:
            raise InvalidRequest("there is no answer to continue: ask something first")
        return self.answered(replace(answer, num_given=len(answer.text)))

    def answered(self, answer: Answer | None) -> Conversation:
        """With this answer to the last question."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], answer=answer)))

    def messages(self, prefix: str = "") -> list[ChatMessage]:
        """What the model is to read: the prefix, the answered turns and the last question, with its answer where that
        is to be continued.

        A turn that was stopped or failed before its first word is left out: an empty answer is not one.
        """
        messages = [ChatMessage("prefix", prefix)] if prefix.strip() else []
        for turn in self.turns[:-1]:
            if turn.answer is not None and turn.answer.text:
                messages += [ChatMessage("user", turn.question), ChatMessage("assistant", turn.answer.text)]
        last = self.turns[-1]
        messages.append(ChatMessage("user", last.question))
        if last.answer is not None and last.answer.text:
            messages.append(ChatMessage("assistant", last.answer.text))
        return messages

    def _check(self, turn: int) -> None:
        if not 0 <= turn < len(self.turns):
            raise InvalidRequest(f"there is no message {turn + 1} to edit: there are {len(self.turns)}")

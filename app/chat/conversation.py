"""A conversation as plain data: every action (ask, retry, undo, edit) turns it into a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from model.interface import ChatMessage, Completion, InvalidRequest

Phase: TypeAlias = Literal["waiting", "reading", "writing", "done", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer at one moment.

    Attributes:
        text: what is to be shown and sent back as history, without the chat format around it.
        phase: `waiting` for a free place in the engine, `reading` the prompt, `writing`, `done` (also when
            stopped) or `failed`.
        num_tokens: tokens generated so far. elapsed_s: seconds since it was asked for.
        tokens_per_s: decode speed so far, `None` before the second token.
        num_waiting: all requests waiting in the engine, this one included.
        max_tokens: the limit that was asked for.
        completion: the engine's record of the finished answer. error: why it failed.
    """

    text: str = ""
    phase: Phase = "reading"
    num_tokens: int = 0
    elapsed_s: float = 0.0
    tokens_per_s: float | None = None
    num_waiting: int = 0
    max_tokens: int | None = None
    completion: Completion | None = None
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


@dataclass(frozen=True, slots=True)
class Conversation:
    """All turns, oldest first. Actions give a new conversation; the questions they leave open are the last ones."""

    turns: tuple[Turn, ...] = ()

    def ask(self, question: str) -> Conversation:
        """With one more question.

        Raises:
            InvalidRequest: the question is empty.
        """
        if not question.strip():
            raise InvalidRequest("the message is empty: write something first")
        return Conversation((*self.turns, Turn(question.strip())))

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
        return Conversation(self.turns[:-1]), self.turns[-1].question

    def edit(self, turn: int, question: str) -> Conversation:
        """With another question in one turn, and nothing after it.

        Raises:
            InvalidRequest: there is no such turn, or the question is empty.
        """
        if not 0 <= turn < len(self.turns):
            raise InvalidRequest(f"there is no message {turn + 1} to edit: there are {len(self.turns)}")
        return Conversation(self.turns[:turn]).ask(question)

    def answered(self, answer: Answer | None) -> Conversation:
        """With this answer to the last question."""
        return Conversation((*self.turns[:-1], replace(self.turns[-1], answer=answer)))

    def messages(self, prefix: str = "") -> list[ChatMessage]:
        """What the model is to read: the prefix, the answered turns and the last question.

        A turn that was stopped or failed before its first word is left out: an empty answer is not one.
        """
        messages = [ChatMessage("prefix", prefix)] if prefix.strip() else []
        for turn in self.turns[:-1]:
            if turn.answer is not None and turn.answer.text:
                messages += [ChatMessage("user", turn.question), ChatMessage("assistant", turn.answer.text)]
        return [*messages, ChatMessage("user", self.turns[-1].question)]

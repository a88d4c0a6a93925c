"""A conversation and the answers being written in it, without any page around them.

`Conversation` is plain data that every action (ask, retry, undo, edit) turns into a new one. `ChatSettings` is what
the page's controls hold, checked. `AnswerStream` is one running request of the engine: it reads the engine at most
half a second at a time, so that whoever shows it can notice that nobody looks any more, and it always aborts the
request when it is left.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from model.interface import (
    MAX_SEED,
    ChatMessage,
    Completion,
    Engine,
    EngineError,
    InvalidRequest,
    SamplingParams,
    StreamChunk,
)

LONGEST_WAIT_S = 0.5  # Gradio notices a closed tab only when a handler yields
SHORTEST_BETWEEN_UPDATES_S = 1 / 12  # more often costs server time that no reader sees

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


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatSettings:
    """What the controls beside the conversation hold, in their own types; `sampling` checks it.

    Attributes:
        max_tokens: `None` is as many as the context holds. seed: as typed; empty draws one.
        stop: as typed, one string a line, with `\\n`, `\\t` and `\\\\` for a newline, a tab and a backslash.
        prefix: text put before the whole conversation.
    """

    temperature: float | None = 0.7
    top_p: float | None = 1.0
    top_k: float | None = 0
    min_p: float | None = 0.0
    repetition_penalty: float | None = 1.0
    max_tokens: float | None = 256
    seed: str = ""
    stop: str = ""
    prefix: str = ""

    def sampling(self, format_stop: Sequence[str]) -> SamplingParams:
        """The engine's parameters, with the chat format's own stop strings first.

        Raises:
            InvalidRequest: a value breaks its rule.
        """
        return SamplingParams(
            temperature=_number("temperature", self.temperature),
            top_p=_number("top_p", self.top_p),
            top_k=_whole(_number("top_k", self.top_k)),
            min_p=_number("min_p", self.min_p),
            repetition_penalty=_number("repetition_penalty", self.repetition_penalty),
            max_tokens=None if self.max_tokens is None else _whole(self.max_tokens),
            seed=parse_seed(self.seed),
            stop=tuple(dict.fromkeys([*format_stop, *parse_stop_strings(self.stop)])),
        )


def _number(name: str, value: float | None) -> float:
    if value is None:
        raise InvalidRequest(f"{name} is empty: enter a number")
    return value


def _whole(value: float) -> int:
    """An int where the value is one (browsers send 40 as 40.0 or 40); other values go on to be refused by name."""
    return int(value) if isinstance(value, float) and value.is_integer() else value  # type: ignore[return-value]


def parse_seed(text: str) -> int | None:
    """The seed in a text field; empty is `None`.

    Raises:
        InvalidRequest: it is not a whole number from 0 to MAX_SEED.
    """
    if not text.strip():
        return None
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 30 and int(digits) <= MAX_SEED):
        raise InvalidRequest(
            f"seed={digits!r} is not allowed: seed must be a whole number from 0 to {MAX_SEED}, or empty"
        )
    return int(digits)


def parse_stop_strings(text: str) -> list[str]:
    """One stop string a line; blank lines are skipped.

    Raises:
        InvalidRequest: a backslash is followed by something else than n, t or a backslash.
    """
    escapes = {"n": "\n", "t": "\t", "\\": "\\"}
    strings = []
    for line in filter(None, text.splitlines()):
        characters = iter(line)
        decoded = ""
        for character in characters:
            if character == "\\":
                code = next(characters, "")
                if code not in escapes:
                    raise InvalidRequest(f"the stop string {line!r} has \\{code}: only \\n, \\t and \\\\ are known")
                decoded += escapes[code]
            else:
                decoded += character
        strings.append(decoded)
    return strings


class AnswerStream:
    """The answer to a conversation's last question, as the engine writes it.

    Raises:
        InvalidRequest: a setting breaks its rule, or the prompt is too long; nothing has been started then.
        EngineClosed: the engine takes no requests any more.
    """

    def __init__(self, engine: Engine, conversation: Conversation, settings: ChatSettings) -> None:
        self._engine = engine
        self._params = settings.sampling(engine.chat_template.stop)
        prompt = engine.chat_template.render(conversation.messages(settings.prefix))
        self._started = time.perf_counter()
        self._first_token: float | None = None
        self._text = ""
        self._num_tokens = 0
        self._stream = engine.stream(prompt, self._params)
        self.discarded = False

    def stop(self) -> None:
        """End the answer now and free what it holds in the engine; from any thread, also twice."""
        self._stream.abort()

    def discard(self) -> None:
        """As `stop`, and nothing more of it shall be shown."""
        self.discarded = True
        self.stop()

    async def updates(self) -> AsyncIterator[Answer]:
        """The answer as it grows: one at once, at least one every half second, at most 12 a second, and always the
        final one. Leaving it aborts the request."""
        shown_at = float("-inf")
        is_changed = True
        try:
            while True:
                if is_changed and time.perf_counter() - shown_at >= SHORTEST_BETWEEN_UPDATES_S:
                    yield self._now()
                    shown_at, is_changed = time.perf_counter(), False
                wait = SHORTEST_BETWEEN_UPDATES_S if is_changed else LONGEST_WAIT_S
                chunk = await self._stream.anext_chunk(max(0.0, shown_at + wait - time.perf_counter()))
                if chunk is not None:
                    self._add(chunk)
                    if chunk.completion is not None:
                        yield self._final(chunk.completion)
                        return
                is_changed = is_changed or chunk is not None or time.perf_counter() - shown_at >= LONGEST_WAIT_S
        except StopAsyncIteration:
            yield self._final(None)
        except EngineError as error:
            yield replace(self._final(None), phase="failed", error=str(error))
        finally:
            self._stream.abort()

    def _add(self, chunk: StreamChunk) -> None:
        self._text += chunk.text
        self._num_tokens += len(chunk.token_ids)
        if self._first_token is None and chunk.token_ids:
            self._first_token = time.perf_counter()

    def _now(self) -> Answer:
        now = time.perf_counter()
        answer = Answer(
            text=self._engine.chat_template.answer(self._text),
            num_tokens=self._num_tokens,
            elapsed_s=now - self._started,
            max_tokens=self._params.max_tokens,
        )
        if self._first_token is not None:
            seconds = now - self._first_token
            speed = (self._num_tokens - 1) / seconds if self._num_tokens > 1 and seconds > 0 else None
            return replace(answer, phase="writing", tokens_per_s=speed)
        num_waiting = self._engine.stats().num_waiting
        # Every request waits for a moment; only a longer wait is worth a word.
        is_waiting = num_waiting > 0 and answer.elapsed_s > SHORTEST_BETWEEN_UPDATES_S
        return replace(answer, phase="waiting" if is_waiting else "reading", num_waiting=num_waiting)

    def _final(self, completion: Completion | None) -> Answer:
        text = self._text
        if completion is not None and completion.finish_reason != "stop":
            text = without_started_stop(text, self._engine.chat_template.stop)
        return Answer(
            text=self._engine.chat_template.answer(text),
            phase="done",
            num_tokens=self._num_tokens,
            elapsed_s=time.perf_counter() - self._started,
            tokens_per_s=completion.timing.tokens_per_s(len(completion.token_ids)) if completion else None,
            max_tokens=self._params.max_tokens,
            completion=completion,
        )


def without_started_stop(text: str, stop: Sequence[str]) -> str:
    """`text` without the beginning of a stop string at its end, which a cut answer may have."""
    started = max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)
    return text[: len(text) - started]


class LiveAnswers:
    """Which browser tab is being answered now; one answer a tab. Used from the page's event loop and threads."""

    def __init__(self) -> None:
        self._by_tab: dict[str, AnswerStream] = {}

    def is_answering(self, tab: str) -> bool:
        return tab in self._by_tab

    def add(self, tab: str, answer: AnswerStream) -> None:
        self._by_tab[tab] = answer

    def remove(self, tab: str, answer: AnswerStream) -> None:
        """Forget it, if it is still the tab's."""
        if self._by_tab.get(tab) is answer:
            del self._by_tab[tab]

    def stop(self, tab: str) -> None:
        """End the tab's answer, if there is one; its end is shown."""
        answer = self._by_tab.get(tab)
        if answer is not None:
            answer.stop()

    def discard(self, tab: str) -> None:
        """End the tab's answer, if there is one, and forget it."""
        answer = self._by_tab.pop(tab, None)
        if answer is not None:
            answer.discard()

"""Answers being written, without any page around them.

A stream here is one running request of the engine: it reads the engine at most a quarter second at a time, so that
whoever shows it can notice that nobody looks any more, and it always aborts the request when it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from app.chat.conversation import Answer, Conversation, Outcome, Phase
from app.chat.settings import ChatSettings
from model.interface import Completion, Engine, EngineError, StreamChunk

STREAMS_AT_FULL_RATE, LARGEST_SLOWDOWN = 32, 4.0
"""Where more are shown at once, each is updated more rarely, down to a quarter as often: the engine needs a core too,
and an update takes 0.4 ms of it."""
LONGEST_WAIT_S = 0.25  # whether the tab is still open is looked up at each update
SHORTEST_BETWEEN_UPDATES_S = 1 / 10  # more often costs server time that no reader sees


class TextStream:
    """A prompt's continuation, as the engine writes it.

    Args:
        settings: its prefix is the caller's to put into the prompt.
        given: text at the prompt's end that is shown as the beginning of the answer.
        stop: strings that end it beside the settings'.
        tidy: from what was written to what is shown.

    Raises:
        InvalidRequest: a setting breaks its rule, or the prompt is too long; nothing has been started then.
        EngineClosed: the engine takes no requests any more.
    """

    _num_shown = 0  # of all streams, changed by the one event loop that shows them

    def __init__(
        self,
        engine: Engine,
        prompt: str,
        settings: ChatSettings,
        *,
        given: str = "",
        stop: Sequence[str] = (),
        tidy: Callable[[str], str] = str,
    ) -> None:
        self._stop_strings = stop
        self._tidy = tidy
        self._text = given
        self._num_tokens = 0
        self._first_token: float | None = None
        self._start = Answer(num_given=len(given), model=engine.info.model_name, settings=settings)
        self._started = time.perf_counter()
        self._stream = engine.stream(prompt, settings.sampling(stop))
        self.discarded = False
        self._stopped: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self.completion: Completion | None = None
        """The engine's own record, once the answer has ended."""

    def stop(self) -> None:
        """End the answer now and free what it holds in the engine; from any thread, also twice."""
        self._stream.abort()
        if self._stopped is not None:
            loop, stopped = self._stopped
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(stopped.set)

    def discard(self) -> None:
        """As `stop`, and nothing more of it shall be shown."""
        self.discarded = True
        self.stop()

    async def updates(self) -> AsyncGenerator[Answer]:
        """The answer as it grows: one at once, at least one every quarter second, at most ten a second, and always the
        final one. Leaving it aborts the request."""
        shown_at = float("-inf")  # so the first update waits for nothing
        stopped = asyncio.Event()
        self._stopped = (asyncio.get_running_loop(), stopped)
        TextStream._num_shown += 1
        try:
            while True:
                if not self._read_what_came():
                    chunk = await self._stream.anext_chunk(max(0.0, shown_at + LONGEST_WAIT_S - time.perf_counter()))
                    if chunk is not None:
                        self._add(chunk)
                if self.completion is not None:
                    yield self._final(self.completion)
                    return
                yield self._now()
                shown_at = time.perf_counter()
                crowd = min(max(1.0, TextStream._num_shown / STREAMS_AT_FULL_RATE), LARGEST_SLOWDOWN)
                await _rest(crowd * SHORTEST_BETWEEN_UPDATES_S, stopped)
        except (StopIteration, StopAsyncIteration):
            yield self._final(None)
        except EngineError as error:
            yield replace(self._final(None), phase="failed", error=str(error))
        finally:
            TextStream._num_shown -= 1
            self._stream.abort()

    def cut(self) -> Answer:
        """The answer as far as it was read, for who leaves before its end."""
        return self._final(None)

    def _read_what_came(self) -> bool:
        """Read all that is there without waiting, so that the engine's thread has to wake nobody; whether it was any.

        Raises:
            StopIteration: the stream has ended.
            EngineError: the request failed.
        """
        came = False
        while self.completion is None and (chunk := self._stream.next_chunk(0.0)) is not None:
            self._add(chunk)
            came = True
        return came

    def _add(self, chunk: StreamChunk) -> None:
        self.completion = chunk.completion
        self._text += chunk.text
        self._num_tokens += len(chunk.token_ids)
        if self._first_token is None and chunk.token_ids:
            self._first_token = time.perf_counter()

    def _now(self) -> Answer:
        now = time.perf_counter()
        elapsed_s = now - self._started
        speed = place = None
        if self._first_token is not None:
            phase: Phase = "writing"
            seconds = now - self._first_token
            speed = (self._num_tokens - 1) / seconds if self._num_tokens > 1 and seconds > 0 else None
        else:
            # Every request waits for a moment; only a longer wait is worth a word.
            place = self._stream.place() if elapsed_s > SHORTEST_BETWEEN_UPDATES_S else None
            phase = "reading" if place is None else "waiting"
        return replace(
            self._start,
            text=self._tidy(self._text),
            phase=phase,
            num_tokens=self._num_tokens,
            elapsed_s=elapsed_s,
            tokens_per_s=speed,
            place=place,
        )

    def _final(self, completion: Completion | None) -> Answer:
        text = self._text
        if completion is None or completion.finish_reason != "stop":
            text = without_started_stop(text, self._stop_strings)
        outcome = None if completion is None else Outcome.of(completion)
        return replace(
            self._start,
            text=self._tidy(text),
            phase="done",
            num_tokens=self._num_tokens,
            elapsed_s=time.perf_counter() - self._started,
            tokens_per_s=None if outcome is None else outcome.tokens_per_s,
            outcome=outcome,
        )


class AnswerStream(TextStream):
    """The answer to a conversation's last question, or the rest of it where the conversation has its beginning.

    Raises:
        As `TextStream`.
    """

    def __init__(self, engine: Engine, conversation: Conversation, settings: ChatSettings) -> None:
        template = engine.chat_template
        answer = conversation.turns[-1].answer
        super().__init__(
            engine,
            template.render(conversation.messages(settings.prefix)),
            settings,
            given="" if answer is None else answer.text,
            stop=template.stop,
            tidy=template.answer,
        )


async def _rest(seconds: float, stopped: asyncio.Event) -> None:
    """Wait so long, or until the answer is stopped."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopped.wait()


def without_started_stop(text: str, stop: Sequence[str]) -> str:
    """`text` without the beginning of a stop string at its end, which a cut answer may have."""
    started = max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)
    return text[: len(text) - started]


class Stoppable(Protocol):
    """What is being written for a browser tab, by one request or several."""

    def stop(self) -> None: ...

    def discard(self) -> None: ...


class LiveAnswers:
    """Which browser tab is being answered now; one answer a tab. Used from the page's event loop and threads."""

    def __init__(self) -> None:
        self._by_tab: dict[str, Stoppable] = {}

    def is_answering(self, tab: str) -> bool:
        return tab in self._by_tab

    def add(self, tab: str, answer: Stoppable) -> None:
        self._by_tab[tab] = answer

    def remove(self, tab: str, answer: Stoppable) -> None:
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

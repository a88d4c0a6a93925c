"""Two answers being written at the same time, read as one stream of pairs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TypeAlias

from app.arena.vote import KeptAnswer, kept_answer
from app.chat.conversation import Answer, Conversation
from app.chat.session import SHORTEST_BETWEEN_UPDATES_S, TextStream
from app.chat.settings import ChatSettings
from model.interface import Engine

Pair: TypeAlias = tuple[Answer, Answer]
KeptPair: TypeAlias = tuple[KeptAnswer | None, KeptAnswer | None]


class Duel:
    """The answers of sides A and B to the last questions of their conversations.

    Args:
        sides: for A and for B the engine, its conversation and its settings.

    Raises:
        InvalidRequest: a setting breaks its rule, or a prompt is too long; nothing is running then.
        EngineClosed: an engine takes no requests any more.
    """

    def __init__(self, sides: Sequence[tuple[Engine, Conversation, ChatSettings]]) -> None:
        self._prompts = [
            engine.chat_template.render(conversation.messages(settings.prefix))
            for engine, conversation, settings in sides
        ]
        self._streams: list[TextStream] = []
        self.discarded = False
        try:
            for prompt, (engine, _, settings) in zip(self._prompts, sides, strict=True):
                template = engine.chat_template
                self._streams.append(TextStream(engine, prompt, settings, stop=template.stop, tidy=template.answer))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both answers now and free what they hold; from any thread, also twice."""
        for stream in self._streams:
            stream.stop()

    def discard(self) -> None:
        """As `stop`, and nothing more of them shall be shown."""
        self.discarded = True
        self.stop()

    @property
    def kept(self) -> KeptPair:
        """What is to be kept of each answer; `None` before its end, and where it failed."""
        a, b = (
            None if stream.completion is None else kept_answer(prompt, stream.completion)
            for prompt, stream in zip(self._prompts, self._streams, strict=True)
        )
        return a, b

    async def updates(self) -> AsyncGenerator[Pair]:
        """Both answers as they grow: a pair at once, at least one every quarter second, at most ten a second, and
        always the final one. Leaving it ends both."""
        latest = [Answer() for _ in self._streams]
        changed = asyncio.Event()

        async def follow(side: int) -> None:
            try:
                async for answer in self._streams[side].updates():
                    latest[side] = answer
                    changed.set()
            finally:
                changed.set()

        followers = [asyncio.create_task(follow(side)) for side in range(len(self._streams))]
        try:
            while not all(follower.done() for follower in followers):
                await changed.wait()
                changed.clear()
                if not all(answer.is_final for answer in latest):
                    yield latest[0], latest[1]
                    await asyncio.wait(followers, timeout=SHORTEST_BETWEEN_UPDATES_S)  # the end is not waited for
            for follower in followers:
                follower.result()  # raises what went wrong
            yield latest[0], latest[1]
        finally:
            self.stop()
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

"""A kept vote's answers once more: the same prompts, models, parameters and seeds, and whether the same tokens come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from app.arena.vote import KeptAnswer, KeptSide, Vote
from app.chat.session import LONGEST_WAIT_S
from model.interface import Completion, CompletionStream, Engine, EngineError, InvalidRequest

_IDENTITY = {
    "weights_sha256": "the weights",
    "tokenizer_sha256": "the tokenizer",
    "rope_position_dtype": "the number format of rotary positions",
    "dtype": "the number format",
    "device": "the device",
    "attention_backend": "the attention back-end",
    "kernels": "the kernels",
    "context_length": "the context length",
    "max_num_requests": "the number of requests run together",
}
"""What of `EngineInfo` decides an answer, most telling first, and how it is called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """One answer beside its replay.

    Attributes:
        side: `A` or `B`. turn: from 0.
        text: what came now; `None` where nothing could be run.
        is_identical: whether the same token ids came.
        first_difference: the first token, from 0, that is another or that only one has; `None` where none is.
        reasons: how the engine differs from the one that answered then; why nothing could be run.
    """

    side: str
    turn: int
    kept: KeptAnswer
    text: str | None
    is_identical: bool
    first_difference: int | None
    reasons: tuple[str, ...]


def changes(side: KeptSide, engine: Engine) -> list[str]:
    """How an engine differs from the one that gave a side's answers, each such as `the device was cuda:0, is cpu`."""
    now = engine.info.as_dict()
    found = [
        f"{name} was {_short(side.engine.get(field))}, is {_short(now[field])}"
        for field, name in _IDENTITY.items()
        if side.engine.get(field) != now[field]
    ]
    then_versions, versions = side.engine.get("versions", {}), now["versions"]
    found += [
        f"{library} was {then_versions.get(library, 'absent')}, is {versions.get(library, 'absent')}"
        for library in sorted(then_versions.keys() | versions.keys())
        if then_versions.get(library) != versions.get(library)
    ]
    return found


def _short(value: Any) -> str:
    """A value for a sentence; of a hash its beginning."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


class Replay:
    """All answers of a vote, run again together, each after the history it had then.

    Where a model is not loaded, or does not take the request, that is the answer's `reasons`.
    """

    def __init__(self, vote: Vote, engines: Mapping[str, Engine]) -> None:
        self._runs = [
            _Run(name, turn, side, answer, engines.get(side.player.model))
            for name, side in (("A", vote.a), ("B", vote.b))
            for turn, answer in enumerate(side.answers)
        ]
        self.discarded = False

    @property
    def num_answers(self) -> int:
        return len(self._runs)

    def stop(self) -> None:
        """End what runs; from any thread, also twice."""
        for run in self._runs:
            run.stop()

    def discard(self) -> None:
        """As `stop`, and nothing more of it shall be shown."""
        self.discarded = True
        self.stop()

    async def results(self) -> AsyncIterator[tuple[Replayed, ...]]:
        """The answers that have ended so far: at least twice a second, and at last all. Leaving it ends what runs."""
        readers = [asyncio.create_task(run.read()) for run in self._runs]
        try:
            waiting = set(readers)
            while waiting:
                _, waiting = await asyncio.wait(waiting, timeout=LONGEST_WAIT_S)
                yield tuple(reader.result() for reader in readers if reader.done())
        finally:
            self.stop()
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


class _Run:
    """One answer's request."""

    def __init__(self, name: str, turn: int, side: KeptSide, kept: KeptAnswer, engine: Engine | None) -> None:
        self._name, self._turn, self._side, self._kept, self._engine = name, turn, side, kept, engine
        self._stream: CompletionStream | None = None
        self._refusal = ""
        if engine is None:
            self._refusal = f"{side.player.model} is not loaded: start the app with it to replay this answer"
            return
        try:
            if not kept.token_ids:
                raise InvalidRequest("the answer was stopped before its first token: there is nothing to compare")
            self._stream = engine.stream(kept.prompt, side.params(kept))
        except EngineError as error:
            self._refusal = str(error)

    def stop(self) -> None:
        if self._stream is not None:
            self._stream.abort()

    async def read(self) -> Replayed:
        if self._stream is None:
            return self._failed(self._refusal)
        try:
            while True:
                chunk = await self._stream.anext_chunk(LONGEST_WAIT_S)
                if chunk is not None and chunk.completion is not None:
                    return self._compared(chunk.completion)
        except StopAsyncIteration:
            return self._failed("the engine ended the request")
        except EngineError as error:
            return self._failed(str(error))

    def _failed(self, reason: str) -> Replayed:
        return self._result(None, None, [reason])

    def _compared(self, completion: Completion) -> Replayed:
        if completion.finish_reason == "abort":
            return self._failed("the replay was stopped")
        pairs = enumerate(zip_longest(self._kept.token_ids, completion.token_ids))
        difference = next((place for place, (then, now) in pairs if then != now), None)
        assert self._engine is not None
        return self._result(completion.text, difference, changes(self._side, self._engine))

    def _result(self, text: str | None, difference: int | None, reasons: list[str]) -> Replayed:
        return Replayed(
            side=self._name,
            turn=self._turn,
            kept=self._kept,
            text=text,
            is_identical=text is not None and difference is None,
            first_difference=difference,
            reasons=tuple(reasons),
        )

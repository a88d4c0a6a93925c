"""A whole file through a classifier: some rows at a time, answers in the order of the rows, memory bounded."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

from app.classify.answers import status_of
from app.classify.classifier import Classifier, Prediction
from app.classify.rows import Row
from model.interface import ContextLengthExceeded, EngineClosed, EngineError

Result = TypeVar("Result")

SECONDS_BETWEEN_REPORTS = 0.25
ROWS_READ_TOGETHER = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a batch is.

    Attributes:
        num_answered: rows with an answer, num_cut of them to a part of their text; num_not_answered: with a reason.
        done: share of the input's bytes that is answered, `None` where its size is unknown.
        elapsed_s: seconds since the start. is_finished: whether every row is written.
    """

    num_answered: int = 0
    num_cut: int = 0
    num_not_answered: int = 0
    done: float | None = None
    elapsed_s: float = 0.0
    is_finished: bool = False

    @property
    def num_rows(self) -> int:
        """Rows that are written."""
        return self.num_answered + self.num_not_answered

    @property
    def left_s(self) -> float | None:
        """Seconds left at the speed so far; `None` while nobody can tell."""
        if self.is_finished:
            return 0.0
        return self.elapsed_s * (1 - self.done) / self.done if self.done else None

    @property
    def rows_per_s(self) -> float | None:
        """Speed so far; `None` before the first row."""
        return self.num_rows / self.elapsed_s if self.num_rows and self.elapsed_s > 0 else None


class Batch:
    """One run over some rows.

    Args:
        rows: read in a thread of its own, `together` at a time.
        write: gets every row in order, with its prediction or the reason why there is none.
        cut: whether texts that are too long are cut instead of left out.
        in_flight: rows asked at a time.
        size: bytes of the input, if known.
    """

    def __init__(
        self,
        classifier: Classifier,
        rows: Iterator[Row],
        write: Callable[[Row, Prediction | str], None],
        *,
        cut: bool,
        in_flight: int,
        size: int | None = None,
        together: int = ROWS_READ_TOGETHER,
    ) -> None:
        self._classifier = classifier
        self._rows = rows
        self._write = write
        self._cut = cut
        self._in_flight = in_flight
        self._size = size
        self._together = together
        self._started = time.perf_counter()
        self._progress = Progress(done=None if size is None else 0.0)

    @property
    def progress(self) -> Progress:
        """As it is now."""
        return replace(self._progress, elapsed_s=time.perf_counter() - self._started)

    async def reports(self) -> AsyncGenerator[Progress]:
        """Run it: progress four times a second, and at the end. Leaving it ends the run; what is written stays.

        Raises:
            EngineClosed: the engine takes no more requests. OSError: reading or writing failed.
        """
        work = asyncio.create_task(self._work())
        try:
            while not work.done():
                yield self.progress
                await asyncio.wait({work}, timeout=SECONDS_BETWEEN_REPORTS)
            work.result()
            self._progress = replace(self.progress, is_finished=True, done=None if self._size is None else 1.0)
            yield self._progress
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def _work(self) -> None:
        waiting: deque[tuple[Row, asyncio.Future[Prediction | str]]] = deque()
        reading: asyncio.Future[list[Row]] | None = in_thread(self._read)
        try:
            while reading is not None or waiting:
                has_room = len(waiting) < self._in_flight
                awaited: set[asyncio.Future[object]] = set()
                if reading is not None and has_room:
                    awaited.add(reading)  # type: ignore[arg-type]
                if waiting:
                    awaited.add(waiting[0][1])  # type: ignore[arg-type]
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and has_room and reading.done():
                    rows = reading.result()
                    waiting.extend((row, asyncio.ensure_future(self._answer(row))) for row in rows)
                    reading = in_thread(self._read) if rows else None
                while waiting and waiting[0][1].done():
                    row, answer = waiting.popleft()
                    self._settle(row, answer.result())
        finally:
            if reading is not None:
                reading.cancel()
            for _, answer in waiting:
                answer.cancel()
            await asyncio.gather(*(answer for _, answer in waiting), return_exceptions=True)

    def _read(self) -> list[Row]:
        return list(itertools.islice(self._rows, self._together))

    async def _answer(self, row: Row) -> Prediction | str:
        if row.text is None:
            return row.problem
        try:
            return await self._classifier.classify(row.text, cut=self._cut, priority="batch")
        except ContextLengthExceeded as error:
            return f"the text is too long: {error}"
        except EngineClosed:
            raise
        except EngineError as error:
            return str(error)

    def _settle(self, row: Row, outcome: Prediction | str) -> None:
        self._write(row, outcome)
        status = status_of(outcome)
        before = self._progress
        self._progress = replace(
            before,
            num_answered=before.num_answered + (status != "not answered"),
            num_cut=before.num_cut + (status == "cut"),
            num_not_answered=before.num_not_answered + (status == "not answered"),
            done=None if self._size is None else min(1.0, row.end / max(1, self._size)),
        )


def rows_in_flight(classifier: Classifier, *, max_num_requests: int) -> int:
    """Rows to ask at a time: enough for a full engine and as many waiting, and few enough that its queue does not look
    full to others."""
    return max(1, 2 * max_num_requests // classifier.requests_per_text)


def in_thread(function: Callable[[], Result]) -> asyncio.Future[Result]:
    """The result of what may take for ever, as reading a terminal: in a thread that does not keep the process alive."""
    future: Future[Result] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="classify", daemon=True).start()
    return asyncio.wrap_future(future)

"""A head trained on a running engine, in a thread, while a page looks on."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.classify.batch import in_thread
from model.interface import Engine, InvalidRequest

if TYPE_CHECKING:
    from model.finetune.classify.run import Progress, TrainedHead

BETWEEN_UPDATES_S = 0.5
_AT_WORK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Stage:
    """What a training is doing: `done` of at most `total` steps of it."""

    name: str
    done: int
    total: int


async def train_on(
    engine: Engine, data: Path, folder: Path, *, text_column: str, label_column: str, skip_bad_rows: bool
) -> AsyncGenerator[Stage | TrainedHead]:
    """Progress at least every half second, and last the head, written to `folder` and attached to the engine. Leaving
    it ends the training, and nothing is written.

    Raises:
        InvalidRequest: another training runs. EngineError: the data cannot be used, or the engine failed.
    """
    if not _AT_WORK.acquire(blocking=False):
        raise InvalidRequest("another head is being trained: wait for its end")
    left = threading.Event()
    now = Stage("reading", 0, 1)

    def note(progress: Progress) -> None:
        nonlocal now
        now = Stage(progress.stage, progress.done, progress.total)

    def train() -> TrainedHead:
        try:
            # Here, since it imports scikit-learn: the app need not wait for that.
            from model.finetune.classify.run import train_head
            from model.finetune.classify.settings import ClassifySettings

            # Hidden states say what the texts say: they do not stay.
            with tempfile.TemporaryDirectory(prefix="hidden-states-") as cache:
                settings = ClassifySettings(
                    model=engine.info.source,
                    data=data,
                    output=folder,
                    whole=False,
                    text_column=text_column,
                    label_column=label_column,
                    bad_rows="skip" if skip_bad_rows else "refuse",
                    cache=Path(cache),
                )
                return train_head(settings, engine=engine, on_progress=note, cancelled=left.is_set)
        finally:
            _AT_WORK.release()

    work = in_thread(train)
    try:
        while not (await asyncio.wait({work}, timeout=BETWEEN_UPDATES_S))[0]:
            yield now
        trained = work.result()
        engine.attach_head(trained.folder)
        yield trained
    finally:
        left.set()

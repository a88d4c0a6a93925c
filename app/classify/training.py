"""A head trained on a running engine, in a thread, while a page looks on."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

from app.classify.batch import in_thread
from model.finetune.classify.run import Progress, TrainedHead, train_head
from model.finetune.classify.settings import ClassifySettings
from model.interface import Engine, InvalidRequest

BETWEEN_UPDATES_S = 0.5
_AT_WORK = threading.Lock()


async def train_on(
    engine: Engine, data: Path, folder: Path, *, text_column: str, label_column: str, skip_bad_rows: bool
) -> AsyncGenerator[Progress | TrainedHead]:
    """Progress at least every half second, and last the head, written to `folder` and attached to the engine. Leaving
    it ends the training, and nothing is written.

    Raises:
        InvalidRequest: another training runs. EngineError: the data cannot be used, or the engine failed.
    """
    if not _AT_WORK.acquire(blocking=False):
        raise InvalidRequest("another head is being trained: wait for its end")
    left = threading.Event()
    now = [Progress("reading", 0, 1)]

    def train() -> TrainedHead:
        try:
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
                return train_head(
                    settings,
                    engine=engine,
                    on_progress=lambda progress: now.__setitem__(0, progress),
                    cancelled=left.is_set,
                )
        finally:
            _AT_WORK.release()

    work = in_thread(train)
    try:
        while not (await asyncio.wait({work}, timeout=BETWEEN_UPDATES_S))[0]:
            yield now[0]
        trained = work.result()
        engine.attach_head(trained.folder)
        yield trained
    finally:
        left.set()

"""What every page is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from app.store import Database
from app.visitors import owner_of
from model.interface import Engine, InvalidRequest

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, kw_only=True, slots=True)
class AppContext:
    """The running app, as pages see it.

    Attributes:
        engines: by their `info.model_name`; the first is the default. At least one.
        database: where pages keep what outlives the server.
        max_waiting: requests that may wait in one engine's queue; no more are begun then.
        results: the folder of evaluation records and the pages made from them.
        heads: the folder of heads trained on the page; `None` keeps them only as long as the server runs.
    """

    engines: Mapping[str, Engine]
    database: Database
    max_waiting: int = 256
    results: Path = RESULTS
    heads: Path | None = None

    @property
    def default(self) -> Engine:
        """The engine of who has not chosen one: the first that can write, if there is any."""
        return next(iter((self.writers or self.engines).values()))

    @property
    def writers(self) -> Mapping[str, Engine]:
        """The engines that can write and score; a checkpoint of a classifier has no head for that."""
        return {name: engine for name, engine in self.engines.items() if engine.info.has_lm_head}

    def writer(self, name: str) -> Engine:
        """As `engine`, of those that can write and score.

        Raises:
            InvalidRequest: as `engine`, or the model can only classify.
        """
        engine = self.engine(name)
        if name not in self.writers:
            raise InvalidRequest(f"the model {name!r} can only classify: use {' or '.join(self.writers)}")
        return engine

    def engine(self, name: str) -> Engine:
        """The engine of this name, if it takes one more request: each has its own queue and its own places.

        Raises:
            InvalidRequest: there is no such engine, or its queue is full.
        """
        engine = self.engines.get(name)
        if engine is None:
            raise InvalidRequest(f"the model {name!r} is not here: use {' or '.join(self.engines)}")
        stats, info = engine.stats(), engine.info
        would_wait = stats.num_waiting > 0 or stats.num_running >= info.max_num_requests
        if would_wait and stats.num_waiting >= self.max_waiting:
            raise InvalidRequest(
                f"{info.model_name} is busy: {stats.num_running} requests run and {stats.num_waiting} wait already, so "
                "try again in a moment"
            )
        return engine

    def owner(self, request: gr.Request) -> str:
        """Whose conversations and votes an event is about."""
        return owner_of(request)

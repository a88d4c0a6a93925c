"""What every page is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from app.store import Database
from app.visitors import owner_of
from model.interface import Engine

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, kw_only=True, slots=True)
class AppContext:
    """The running app, as pages see it.

    Attributes:
        engines: by their `info.model_name`; the first is the default. At least one.
        database: where pages keep what outlives the server.
        results: the folder of evaluation records and the pages made from them.
    """

    engines: Mapping[str, Engine]
    database: Database
    results: Path = RESULTS

    @property
    def default(self) -> Engine:
        """The engine of who has not chosen one."""
        return next(iter(self.engines.values()))

    def owner(self, request: gr.Request) -> str:
        """Whose conversations and votes an event is about."""
        return owner_of(request)

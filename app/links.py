"""Addresses of pages with something chosen on them.

They are relative to the pages, all of which stand beside each other, so that they hold behind a proxy that serves the
app under a path of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode


def address(path: str, chosen: Mapping[str, str | int | None]) -> str:
    """The page of this path, such as `samples`, with these query parameters; what is `None` or empty is left out."""
    query = urlencode({name: value for name, value in chosen.items() if value not in (None, "")})
    return f"{path}?{query}" if query else path


def samples_of(run: str, *, task: str = "", against: str = "", show: str = "") -> str:
    """The sample browser on a run, on one of its tasks, or on what tells it from another run."""
    return address("samples", {"run": run, "task": task, "against": against, "show": show})

"""What the scenarios found, as a page of `results/`, with what decides the figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from app.api.load_test.verdict import Verdict
from model.interface import processor_name

FILE = "README.md"
_GROUP = Path("/proc/self/autogroup")  # what nice is relative to on a desktop kernel, sched(7)
_LIBRARIES = ("torch", "uvicorn", "starlette", "pydantic", "httpx")
_HEAD = """# The server under load

Written by `python -m app.api.load_test`; change nothing here by hand. It starts `python -m app --no-page` on this
machine and is its client, so both share the processor.

- **overload** four times the clients that may come in ask again and again; each refused one waits a second. Every reply
  has to be 200 or 429, and every refusal has to come within 100 ms, as the client sees it.
- **aborts** a fifth of the requests is given up at a random moment, half of all are streams: at the end as many KV
  blocks are free as before, and the server's resident memory has grown by at most 5 % since every block of the cache
  had been written once and the first tenth of the requests had been sent.
- **kills** clients that read a stream are killed (SIGKILL), one after the other: the same of the blocks.
- **fuzz** malformed bodies: every reply is a 4xx in OpenAI's schema. A few bodies make sense by chance and get a 200;
  they do not count.
- **sigterm** the server is told to end while streams run: they come to their ends, a new request gets 503, the server
  ends with status 0.
"""


def write_page(
    folder: Path, *, verdicts: Sequence[tuple[Verdict, float]], health: dict[str, Any], command: str
) -> Path:
    """Write the page.

    Args:
        verdicts: with the seconds each took. health: the server's `/health`. command: what was typed.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.
    """
    models = ", ".join(f"{one['model_name']} ({one['device']}, {one['dtype']})" for one in health["models"])
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _LIBRARIES)]
    machine = (
        f"{processor_name()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; "
        f"{platform.system()} {platform.release()}; load average before the end {os.getloadavg()[0]:.1f}"
    )
    group = _GROUP.read_text().partition("nice ")[2].strip() if _GROUP.is_file() else "0"
    facts = (
        ("command", f"`{command}`"),
        ("when", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("models", models),
        ("machine", machine),
        ("priority over other programs", f"nice {psutil.Process().nice()}, its group's {group}"),
        ("versions", ", ".join(versions)),
    )
    lines = [_HEAD, *(f"- {name}: {value}" for name, value in facts), "", "| scenario | passed | seconds | found |"]
    lines.append("| --- | --- | ---: | --- |")
    for verdict, seconds in verdicts:
        found = "; ".join(f"{name} {value}" for name, value in verdict.facts.items()).replace("|", "\\|")
        lines.append(f"| {verdict.name} | {'yes' if verdict.passed else '**no**'} | {seconds:.0f} | {found} |")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file

"""What this place can see and reach, told by the sandbox's own first process before any program runs."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

_CONNECT_SECONDS = 1.0


def look_around(*, files: Sequence[str], folders: Sequence[str], port: int, variable: str) -> dict[str, Any]:
    """Try what must not work.

    Args:
        files: files outside that must not be readable.
        folders: folders outside that must not be writable.
        port: a port somebody outside listens on.
        variable: an environment variable that is set outside.

    Returns:
        `readable`, `writable`: those that were; `reached`: whether the port was; `environment`: whether the variable
        was seen; `user`, `process`: ids as seen from here; `capabilities`: how many; `interfaces`: of the network,
        without the loopback.
    """
    found = {
        "readable": [path for path in files if _readable(path)],
        "writable": [path for path in folders if _writable(path)],
        "reached": _reached(port),
        "environment": variable in os.environ,
        "user": os.geteuid(),
        "process": os.getpid(),
        "capabilities": 0,
        "interfaces": [name for _, name in socket.if_nameindex() if name != "lo"],
    }
    if sys.platform == "linux":
        from . import kernel

        found["capabilities"] = kernel.capabilities()
    return found


def _readable(path: str) -> bool:
    with contextlib.suppress(OSError), open(path, "rb"):
        return True
    return False


def _writable(folder: str) -> bool:
    name = os.path.join(folder, f"written-{os.getpid()}")
    with contextlib.suppress(OSError):
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.unlink(name)
        return True
    return False


def _reached(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=_CONNECT_SECONDS):
        return True
    return False

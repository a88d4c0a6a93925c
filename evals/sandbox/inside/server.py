"""The sandbox's first process: for every program a judge, and nothing left over from one program to the next.

Starting Python takes ten times as long as forking it, so one sandbox serves many programs, one after the other. What
they could leave behind: no file (all is read-only), no process (none can be started, and the two there are, are waited
for), no shared memory (no such system call). This process never reads a request: judges do.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import platform
import select
import signal
from collections.abc import Callable
from typing import Any

from . import wire
from .judge import REQUESTS, VERDICTS, judge_one
from .limits import Limits

_MAX_GREETING = 1 << 20
# What HumanEval's programs import most, loaded once; the rest is read from the standard library when asked for.
_PRELOADED = (
    "bisect",
    "collections",
    "copy",
    "functools",
    "heapq",
    "itertools",
    "math",
    "random",
    "re",
    "string",
    "typing",
)


def serve() -> None:
    """Read the greeting, settle in, say what can be seen from here, then serve until the parent closes its pipe.

    The greeting is a dict: `limits`, `sandboxed`, `namespaces` (folders to leave readable, or `None`), `look`
    (arguments of `look_around`, or `None`). The reply is `("ready", {...})`, or `("unavailable", reason)`.
    """
    greeting = wire.read_frame(REQUESTS, _MAX_GREETING)
    try:
        report, confine = _settle_in(greeting)
    except (OSError, ImportError) as error:
        wire.write_all(VERDICTS, wire.frame(("unavailable", str(error))))
        return
    for name in _PRELOADED:
        importlib.import_module(name)
    os.environ.clear()
    gc.freeze()  # forks share these pages until one writes to them
    limits = Limits(**greeting["limits"])
    wire.write_all(VERDICTS, wire.frame(("ready", report)))
    requests = select.poll()
    requests.register(REQUESTS, select.POLLIN)
    while any(event & select.POLLIN for _, event in requests.poll()):
        judge = os.fork()
        if judge == 0:
            status = 1
            try:
                judge_one(limits, confine)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(judge, 0)
        if greeting["sandboxed"]:
            _clear_up()
        wire.write_all(VERDICTS, wire.frame(("done", os.waitstatus_to_exitcode(status))))


def _settle_in(greeting: dict[str, Any]) -> tuple[dict[str, Any], Callable[[list[int]], None]]:
    report: dict[str, Any] = {"python": platform.python_version()}
    if greeting["namespaces"] is not None:
        from . import namespaces

        namespaces.enter(greeting["namespaces"])
    if greeting["look"] is not None:
        from .look_around import look_around

        report["seen"] = look_around(**greeting["look"])
    if not greeting["sandboxed"]:
        return report, lambda may_kill: None
    from . import kernel, landlock, seccomp

    report["landlock"] = landlock.version()
    seccomp.allow_list(platform.machine())  # there is none for some processors

    def confine(may_kill: list[int]) -> None:
        kernel.die_with_parent()
        seccomp.confine(may_kill=may_kill)

    return report, confine


def _clear_up() -> None:
    """End and wait for whatever the judge left."""
    if os.getpid() != 1:
        return  # outside a namespace of our own, "all" would be the user's other processes
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)

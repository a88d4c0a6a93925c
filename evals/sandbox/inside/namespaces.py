"""A place of our own without bubblewrap: user, process, network, IPC, host name and mount namespaces, then Landlock."""

from __future__ import annotations

import os
from collections.abc import Sequence

from . import kernel, landlock

_INNER_ID = 1000  # any number that is not root's


def enter(readable: Sequence[str]) -> None:
    """Return in a new first process that can read `readable` and has no rights, no network and no other processes.

    The calling process stays behind, waits, and ends as the new one ends.

    Raises:
        OSError: the kernel or a policy refuses one of them; the text names the call.
    """
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(
        kernel.CLONE_NEWUSER
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWNS
    )
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{_INNER_ID} {user} 1")
    _write("/proc/self/gid_map", f"{_INNER_ID} {group} 1")
    first = os.fork()
    if first:
        # Ends with its parent: the kernel then kills the first process, and with it everything in its namespace.
        kernel.die_with_parent()
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    kernel.die_with_parent()
    landlock.read_only(readable)
    os.chdir("/")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)

"""System calls that Python 3.11 has no functions for (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal

# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
# include/uapi/linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# include/uapi/linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def system_call(name: str, number: int, *arguments: int | ctypes.c_void_p | None) -> int:
    """Any system call by its number.

    Raises:
        OSError: it failed; the text starts with `name`.
    """
    values = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *values)), name)


def prctl(name: str, option: int, *arguments: int | ctypes.c_void_p) -> int:
    """`prctl(2)`.

    Raises:
        OSError: it failed; the text starts with `name`.
    """
    values = [ctypes.c_ulong(argument) if isinstance(argument, int) else argument for argument in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    return _checked(int(_libc.prctl(option, *values)), name)


def no_new_privileges() -> None:
    """No program started from here gains rights, whatever bits its file has."""
    prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    """Be killed when the parent ends. Has to come after every change of user or capabilities, which undo it."""
    prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal.SIGKILL)


def unshare(flags: int) -> None:
    """Leave the parent's namespaces.

    Raises:
        OSError: the kernel or a policy forbids it.
    """
    _checked(int(_libc.unshare(flags)), "unshare")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop_capabilities() -> None:
    """Give up every capability, and the means to get one back."""
    for number in range(64):
        try:
            prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, number)
        except OSError:
            break  # beyond the last one this kernel knows
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (_CapabilityData * 2)()
    _checked(int(_libc.capset(ctypes.byref(header), nothing)), "capset")


def capabilities() -> int:
    """How many capabilities this process has, could take, or could get by starting a program."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    held = (_CapabilityData * 2)()
    _checked(int(_libc.capget(ctypes.byref(header), held)), "capget")
    count: int = sum((part.effective | part.permitted | part.inheritable).bit_count() for part in held)
    for number in range(64):
        try:
            count += prctl("PR_CAPBSET_READ", _PR_CAPBSET_READ, number)
        except OSError:
            break
    return count

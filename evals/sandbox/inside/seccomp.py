"""The system calls left to a process that computes: an allow-list, put in place by the process itself.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. Everything else fails with EPERM,
so Python raises an ordinary error. Left out on purpose: every way to start a process or a thread (clone, fork, vfork,
clone3, execve), to signal or read another process (kill, tgkill, ptrace, process_vm_*, pidfd_*), sockets, memory that
no limit counts (memfd, System V), and changes to files.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Sequence

from . import kernel

# machine: (AUDIT_ARCH_*, column of the table)
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Name: number on x86_64 and on aarch64, `None` where there is no such call. The commonest first.
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "poll": (7, None),
    "ppoll": (271, 73),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "brk": (12, 214),
    "futex": (202, 98),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "close": (3, 57),
    "getdents64": (217, 61),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "open": (2, None),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "select": (23, None),
    "pselect6": (270, 72),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "close_range": (436, 436),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
    "set_robust_list": (273, 99),
    "wait4": (61, 260),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Name: numbers, which argument is looked at, the values it may have. The kernel takes each of them as 32 bits.
_ALLOWED_VALUES: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: F_SETOWN and F_SETSIG would signal other processes.
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),
    # TCGETS and TIOCGWINSZ (is this a terminal?), FIOCLEX, FIONCLEX, FIONREAD.
    "ioctl": ((16, 29), 1, (0x5401, 0x5413, 0x5451, 0x5450, 0x541B)),
    # Its own limits only, and they only go down.
    "prlimit64": ((302, 261), 0, (0,)),
}
_KILL = (62, 129)

# include/uapi/linux/bpf_common.h, seccomp.h
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL, _END_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class UnknownMachine(OSError):
    """No table of system calls for this processor."""


def allow_list(machine: str, *, may_kill: Sequence[int] = ()) -> bytes:
    """The filter as BPF instructions.

    Args:
        machine: as `platform.machine()` names it.
        may_kill: process ids this process may signal.

    Raises:
        UnknownMachine: there is no table for `machine`.
    """
    if machine not in _MACHINES:
        raise UnknownMachine(f"seccomp: no system call table for {machine}; there is one for {', '.join(_MACHINES)}")
    audit, column = _MACHINES[machine]
    code = [
        _instruction(_LOAD, _MACHINE_AT),
        _instruction(_JUMP_IF_EQUAL, audit, if_true=1),
        _instruction(_RETURN, _END_PROCESS),  # a 32-bit call would be looked up in the wrong table
        _instruction(_LOAD, _NUMBER_AT),
    ]
    for numbers in _ALLOWED.values():
        number = numbers[column]
        if number is not None:
            code += _instruction(_JUMP_IF_EQUAL, number, if_false=1), _instruction(_RETURN, _ALLOW)
    by_value = list(_ALLOWED_VALUES.values())
    if may_kill:
        by_value.append((_KILL, 0, tuple(may_kill)))
    for (*pair,), argument, values in by_value:
        # Load, two instructions for each value, and the refusal.
        code.append(_instruction(_JUMP_IF_EQUAL, pair[column], if_false=2 + 2 * len(values)))
        code.append(_instruction(_LOAD, _ARGUMENTS_AT + 8 * argument))
        for value in values:
            code += _instruction(_JUMP_IF_EQUAL, value, if_false=1), _instruction(_RETURN, _ALLOW)
        code.append(_instruction(_RETURN, _FAIL | errno.EPERM))
    code.append(_instruction(_RETURN, _FAIL | errno.EPERM))
    return b"".join(code)


def _instruction(operation: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine(*, may_kill: Sequence[int] = ()) -> None:
    """Leave this process the allow-list only. It cannot be undone.

    Raises:
        OSError: the kernel has no seccomp filters, or there is no table for this processor.
    """
    code = allow_list(platform.machine(), may_kill=may_kill)
    kernel.no_new_privileges()
    program = _Filter(len(code) // 8, code)
    address = ctypes.c_void_p(ctypes.addressof(program))
    kernel.prctl("PR_SET_SECCOMP", _PR_SET_SECCOMP, _MODE_FILTER, address)

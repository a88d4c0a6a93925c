"""The table of system calls agrees with the kernel's headers, and the filter with the table."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from evals.sandbox.inside import seccomp

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
FORBIDDEN = [
    "clone",
    "clone3",
    "execve",
    "execveat",
    "kill",
    "tgkill",
    "ptrace",
    "process_vm_writev",
    "socket",
    "unshare",
]


def run(code: bytes, machine: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the filter returns for a call: the few instructions it uses, carried out."""
    data = struct.pack("=IIQ6Q", number, machine, 0, *arguments, *([0] * (6 - len(arguments))))
    program = list(struct.iter_unpack("=HBBI", code))
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, value = program[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x15:
            at += if_true if accumulator == value else if_false
        else:
            assert operation == 0x06
            return value


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_numbers_are_the_kernels(machine: str, column: int) -> None:
    header = HEADERS[machine]
    if not header.is_file():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    numbers = {name: int(number) for name, number in found}
    # The generic table's name for the call that x86-64 calls newfstatat.
    numbers.setdefault("newfstatat", numbers.get("fstatat", -1))

    tables = {name: pair[column] for name, pair in seccomp._ALLOWED.items()}
    tables |= {name: pair[0][column] for name, pair in seccomp._ALLOWED_VALUES.items()}
    tables["kill"] = seccomp._KILL[column]

    assert {name: number for name, number in tables.items() if number != numbers.get(name)} == {}
    allowed = set(tables.values()) - {tables["kill"]}
    assert not allowed & {numbers[name] for name in FORBIDDEN}


def test_filter_follows_the_table() -> None:
    code = seccomp.allow_list("x86_64", may_kill=[77])
    machine, refused = 0xC000003E, 0x00050001
    allowed = 0x7FFF0000

    assert run(code, machine, 0) == allowed  # read
    assert run(code, machine, 231) == allowed  # exit_group, the last of the table
    assert run(code, machine, 57) == refused  # fork
    assert run(code, machine, 41) == refused  # socket
    assert run(code, machine, 0x40000000) == refused  # read in the x32 table
    assert run(code, machine, 72, (3, 1)) == allowed  # fcntl F_GETFD
    assert run(code, machine, 72, (3, 8)) == refused  # fcntl F_SETOWN
    assert run(code, machine, 16, (0, 0x5412)) == refused  # ioctl TIOCSTI
    assert run(code, machine, 302, (0,)) == allowed  # prlimit64 of itself
    assert run(code, machine, 302, (1,)) == refused
    assert run(code, machine, 62, (77, 9)) == allowed
    assert run(code, machine, 62, (1, 9)) == refused
    assert run(code, 0x40000003, 0) == 0x80000000  # a 32-bit call ends the process
    assert run(seccomp.allow_list("x86_64"), machine, 62, (77, 9)) == refused


def test_unknown_processor_is_refused() -> None:
    with pytest.raises(seccomp.UnknownMachine, match="no system call table for riscv64"):
        seccomp.allow_list("riscv64")

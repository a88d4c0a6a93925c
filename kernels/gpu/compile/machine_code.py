"""Numbers from a compiled kernel's machine code."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WIDE = 16  # bytes of the widest load of sm_80 and sm_90
_SUFFIX_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
_PLAIN_BYTES = 4  # of a load without a suffix
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_LOADS = ("LDG", "LD", "LDGSTS")  # from global memory; the last straight to shared memory (cp.async)
_BULK_LOADS = ("UBLKCP", "UTMALDG")  # by the copy engine of sm_90, in lines of at least 16 bytes
_LOCAL = ("STL", "LDL")


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineCode:
    """What a kernel's machine code takes, per thread.

    Attributes:
        registers: 32-bit registers.
        stack_bytes: local memory, which is where spilled registers go.
        local_accesses: instructions that read or write local memory.
        loads: bytes of a load from global memory -> how many such instructions there are; one in a loop counts once.
    """

    registers: int
    stack_bytes: int
    local_accesses: int
    loads: Mapping[int, int]


def read_cubin(cubin: bytes, *, cuobjdump: str) -> MachineCode:
    """Disassemble a cubin with one kernel.

    Args:
        cuobjdump: path of the tool.

    Raises:
        ValueError: the tool failed, or said something else than is read here.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run([cuobjdump, "-res-usage", "-sass", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"cuobjdump failed: {done.stderr.strip()}")
    return read_listing(done.stdout)


def read_listing(listing: str) -> MachineCode:
    """Read what `cuobjdump -res-usage -sass` prints.

    Raises:
        ValueError: it has no line of resource usage, or no instruction.
    """
    usage = _USAGE.search(listing)
    instructions = _INSTRUCTION.findall(listing)
    if usage is None or not instructions:
        raise ValueError("cuobjdump's listing has no resource usage or no instructions: its format has changed")
    loads: Counter[int] = Counter()
    local_accesses = 0
    for instruction in instructions:
        name, *suffixes = instruction.split(".")
        if name in _LOADS:
            loads[next((_SUFFIX_BYTES[each] for each in suffixes if each in _SUFFIX_BYTES), _PLAIN_BYTES)] += 1
        loads[WIDE] += name in _BULK_LOADS
        local_accesses += name in _LOCAL
    return MachineCode(
        registers=int(usage[1]),
        stack_bytes=int(usage[2]) + int(usage[4]),
        local_accesses=local_accesses,
        loads={width: count for width, count in sorted(loads.items(), reverse=True) if count},
    )

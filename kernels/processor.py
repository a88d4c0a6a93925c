"""Which processor this is."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
INTEL = "GenuineIntel"  # as the CPUID instruction names it; Linux gives that as vendor_id, Windows in processor()


@cache
def processor_name() -> str:
    """The model name of Linux's cpuinfo, else what Python knows."""
    return _entry("model name", _cpu_info()) or platform.processor() or platform.machine()


@cache
def is_intel() -> bool:
    """Whether Intel made it."""
    return INTEL in (_entry("vendor_id", _cpu_info()) or platform.processor())


def _cpu_info() -> str:
    try:
        return CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        return ""


def _entry(name: str, cpu_info: str) -> str:
    """The first value of that name; empty if there is none."""
    for line in cpu_info.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name and value.strip():
            return value.strip()
    return ""

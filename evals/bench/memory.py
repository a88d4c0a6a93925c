"""Resident memory of this process, and its highest value since a moment of our choice."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # Linux, Documentation/filesystems/proc.rst: sets the peak ("VmHWM") to what is resident now


def resident_bytes() -> int:
    """Resident now."""
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Begin a new peak, where the system can (Linux); elsewhere the peak stays that of the whole process."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return


def peak_bytes() -> int:
    """Most that was resident since :func:`forget_peak`.

    Not `ru_maxrss` on Linux: that one cannot be reset, so it holds what loading took for a moment, and a new program
    begins with that of the process that started it.
    """
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) of each system
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

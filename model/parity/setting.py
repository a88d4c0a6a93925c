"""Where the figures of a page were computed."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def setting() -> dict[str, str]:
    """Versions and processor, by what they are called on the page."""
    return {
        "torch": version("torch"),
        "transformers": version("transformers"),
        "Python": platform.python_version(),
        "processor": processor_name(CPU_INFO.read_text() if CPU_INFO.is_file() else ""),
    }


def processor_name(cpu_info: str) -> str:
    """The model name of Linux's cpuinfo, else what Python knows."""
    for line in cpu_info.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()

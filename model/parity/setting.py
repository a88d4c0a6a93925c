"""Where the figures of a page were computed."""

from __future__ import annotations

import platform
from importlib.metadata import version

from kernels.processor import processor_name


def setting() -> dict[str, str]:
    """Versions and processor, by what they are called on the page."""
    return {
        "torch": version("torch"),
        "transformers": version("transformers"),
        "Python": platform.python_version(),
        "processor": processor_name(),
    }

"""Switches of third-party libraries that must be set before those libraries are imported."""

from __future__ import annotations

import os


def prepare(*, offline: bool) -> None:
    """Turn telemetry off and, for a run that needs nothing from outside, the Hub too.

    A value the user has set stays as it is.

    Args:
        offline: whether both the checkpoint and the items are local.
    """
    quiet = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    no_hub = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    for name, value in (quiet | no_hub if offline else quiet).items():
        os.environ.setdefault(name, value)

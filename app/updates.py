"""What the handlers of a page's events return: new values for some of the page's components."""

from __future__ import annotations

from typing import Any

import gradio as gr

Updates = dict[Any, Any]
"""New values of Gradio components, or what `gr.update` gives; those not in it stay as they are."""

UNCHANGED = {"__type__": "update"}
"""The value of an output that stays as it is, as Gradio's pages read it."""


def all_unchanged() -> Updates:
    """What a handler returns that changes nothing."""
    updates: Updates = gr.skip()
    return updates

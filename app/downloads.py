"""Files that pages offer for download."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache


def offer(button: gr.DownloadButton, name: str, text: str) -> Any:
    """An update of the button: it gives a file of this name with this text. The file lies in Gradio's cache, in a
    folder named after its content, until the cache is emptied (`app.pages`)."""
    path = save_bytes_to_cache(text.encode(), name, button.GRADIO_CACHE)
    return gr.update(value=path, interactive=True)

"""Links by which the browser saves a text as a file. The text is in the link itself: nothing is written on the server,
and no address could be guessed."""

from __future__ import annotations

import base64
import html


def download_html(name: str, text: str, *, media_type: str) -> str:
    """A link that saves `text` as UTF-8 in a file of this name."""
    data = base64.b64encode(text.encode()).decode()
    name = html.escape(name)
    return f'<a download="{name}" href="data:{media_type};charset=utf-8;base64,{data}">{name}</a>'

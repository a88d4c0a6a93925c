"""What all pages share: theme, styles, and the header that says which model answers."""

from __future__ import annotations

import html
from pathlib import Path

import gradio as gr

from model.interface import EngineInfo

_FOLDER = Path(__file__).parent
# The app's own style, then each page's, which begins its selectors with an id of its own.
_CSS = "\n".join(
    path.read_text(encoding="utf-8") for path in (_FOLDER / "style.css", *sorted(_FOLDER.glob("*/style.css")))
)
_SCRIPTS = "\n".join(
    path.read_text(encoding="utf-8") for path in (_FOLDER / "clipboard.js", *sorted(_FOLDER.glob("*/script.js")))
)

# In the head, not as Gradio's `css`, which puts a class of its own before every selector, so that none matches
# anything outside the page's content.
HEAD = f'<meta name="color-scheme" content="light dark"><style>{_CSS}</style><script>{_SCRIPTS}</script>'

SUBDUED, SUBDUED_DARK = "#6b6460", "#b5aea9"

_SYSTEM_FONTS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_SYSTEM_MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

# System fonts: Gradio's own choice would be fetched from a font server.
THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.orange,
    secondary_hue=gr.themes.colors.stone,
    neutral_hue=gr.themes.colors.stone,
    radius_size=gr.themes.sizes.radius_md,
    font=_SYSTEM_FONTS,
    font_mono=_SYSTEM_MONO_FONTS,
).set(
    # orange-700 under white text has a contrast of 5.2, orange-500 only 2.8
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    button_primary_text_color="white",
    button_primary_text_color_dark="white",
    # the theme's own have a contrast of 2.5; these 5.6 and 8
    body_text_color_subdued=SUBDUED,
    body_text_color_subdued_dark=SUBDUED_DARK,
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
)


def header_html(info: EngineInfo) -> str:
    """The model's name and what it runs on, and its notice, if there is one, where nobody misses it."""
    facts = {
        "Device": info.device,
        "Number format": info.dtype,
        "Context": f"{info.context_length:,} tokens",
        "Parameters": _parameters(info.num_parameters),
        "Attention": info.attention_backend,
    }
    # The attention back-end's name may be followed by why it runs: kept for the pointer, not in everybody's way.
    items = "".join(
        f'<div title="{html.escape(value)}"><dt>{name}</dt><dd>{html.escape(value.partition(":")[0])}</dd></div>'
        if name == "Attention"
        else f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in facts.items()
        if value
    )
    header = f'<header class="model"><h1>{html.escape(info.model_name)}</h1><dl>{items}</dl></header>'
    if info.notice is None:
        return header
    return f'{header}<p class="notice" role="note">{html.escape(info.notice)}</p>'


def title_html(title: str, about: str) -> str:
    """A page's heading and a sentence on what it is for; plain texts."""
    return f'<header class="page-title"><h1>{html.escape(title)}</h1><p>{html.escape(about)}</p></header>'


def problem_html(error: Exception) -> str:
    """Why something was not done, for a `gr.Markdown` of the class `problem`, which is hidden while it is empty; its
    lines stay lines."""
    lines = html.escape(str(error)).strip().splitlines()
    return f'<p role="alert">{"<br>".join(lines)}</p>'


def _parameters(number: int) -> str:
    """Such as `9.4 billion`; empty for none."""
    for size, name in ((10**9, " billion"), (10**6, " million"), (10**3, " thousand")):
        if number >= size:
            return f"{number / size:.1f}{name}"
    return str(number) if number else ""

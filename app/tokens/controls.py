"""The controls of an answer the model writes on the Tokens page."""

from __future__ import annotations

from typing import Any

import gradio as gr


def answer_controls() -> dict[str, Any]:
    """By the names of `ChatSettings`' fields."""
    return {
        "max_tokens": gr.Number(64, label="Max tokens", min_width=110, placeholder="all that fit"),
        "temperature": gr.Slider(0, 2, 0, step=0.05, label="Temperature (0: greedy)"),
        "top_p": gr.Slider(0.01, 1, 1, step=0.01, label="Top-p (1: off)"),
        "top_k": gr.Number(0, label="Top-k (0: off)", min_width=110),
        "min_p": gr.Slider(0, 1, 0, step=0.01, label="Min-p (0: off)"),
        "repetition_penalty": gr.Slider(0.5, 2, 1, step=0.01, label="Repeat penalty (1: off)"),
        "seed": gr.Textbox("", label="Seed", placeholder="random", max_lines=1),
        "stop": gr.Textbox("", label="Stop strings", placeholder="one a line", lines=1, max_lines=4),
    }

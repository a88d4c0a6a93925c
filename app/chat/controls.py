"""The controls beside a conversation: which model answers, and how."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import partial
from typing import Any

import gradio as gr

from app.chat.settings import PRESETS, ChatSettings, Preset
from app.context import AppContext

DEFAULT_MAX_TOKENS = 256
_FILLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")


class Controls:
    """Builds them where it is made.

    Attributes:
        model: the name of the model that answers.
        inputs: the model and the settings, as `settings_of` takes their values.
    """

    def __init__(self, context: AppContext) -> None:
        info = context.default.info
        names = list(context.writers)
        self.model = gr.Dropdown(
            names, value=names[0], label="Model", visible=len(names) > 1, filterable=False, elem_id="setting-model"
        )
        # A demonstration model knows little, and says what it knows best without chance.
        preset = PRESETS["Greedy" if info.notice is not None else "Balanced"]
        max_tokens = min(DEFAULT_MAX_TOKENS, info.context_length // 2)
        with gr.Row(elem_id="presets"):
            buttons = {
                name: gr.Button(name, size="sm", min_width=60, elem_id=f"preset-{name.lower()}") for name in PRESETS
            }
        self._settings = _settings(preset, max_tokens)
        filled = [self._settings[name] for name in _FILLED]
        for name, button in buttons.items():
            button.click(partial(_values, PRESETS[name]), None, filled, queue=False, api_visibility="private")
        self.inputs = [self.model, *(self._settings[field.name] for field in fields(ChatSettings))]

    @property
    def prefix(self) -> gr.Textbox:
        """Text before the whole conversation."""
        return self._settings["prefix"]


def settings_of(values: tuple[Any, ...]) -> tuple[str, ChatSettings]:
    """The model's name and the settings, from the values of `Controls.inputs`."""
    names = [field.name for field in fields(ChatSettings)]
    return values[0], ChatSettings(**dict(zip(names, values[1:], strict=True)))


def _values(preset: Preset) -> list[Any]:
    """For the controls of `_FILLED`; what a preset leaves open stays as it is."""
    values = asdict(preset)
    return [gr.skip() if values[name] is None else values[name] for name in _FILLED]


def _settings(preset: Preset, max_tokens: int) -> dict[str, Any]:
    """The controls, by the names of `ChatSettings`' fields."""
    controls: dict[str, Any] = {
        "prefix": gr.Textbox(
            "",
            label="Prefix (“system”) text",
            placeholder="Stands before the whole conversation",
            lines=2,
            max_lines=8,
        )
    }
    with gr.Row():
        controls["max_tokens"] = gr.Number(max_tokens, label="Max tokens", min_width=110, placeholder="all that fit")
        controls["seed"] = gr.Textbox("", label="Seed", placeholder="random", max_lines=1, min_width=110)
    controls["temperature"] = gr.Slider(0, 2, preset.temperature, step=0.05, label="Temperature (0: greedy)")
    controls["top_p"] = gr.Slider(0.01, 1, preset.top_p, step=0.01, label="Top-p (1: off)")
    controls["min_p"] = gr.Slider(0, 1, preset.min_p, step=0.01, label="Min-p (0: off)")
    controls["repetition_penalty"] = gr.Slider(
        0.5, 2, preset.repetition_penalty, step=0.01, label="Repeat penalty (1: off)"
    )
    with gr.Row():
        controls["top_k"] = gr.Number(preset.top_k, label="Top-k (0: off)", min_width=110)
        controls["stop"] = gr.Textbox(
            "", label="Stop strings", placeholder="one a line", lines=1, max_lines=4, min_width=110
        )
    for name, control in controls.items():
        control.elem_id = f"setting-{name.replace('_', '-')}"
    return controls

"""The controls of a round: who is compared, whether names are hidden, and what is the same for both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import gradio as gr

from app.arena.round import Choice, Round, draw
from app.chat.settings import PRESETS, ChatSettings, Preset
from app.updates import Updates
from model.interface import Engine

ANY_MODEL = "Any model"
BLIND, NAMED = "Hidden until the vote", "Shown"


class Controls:
    """The components, made where it is constructed."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._models = list(engines)
        infos = [engine.info for engine in engines.values()]
        # Small demonstration models answer best without chance.
        preset = "Greedy" if all(info.notice is not None for info in infos) else "Balanced"
        other_preset = preset if len(engines) > 1 else "Creative"
        with gr.Row(elem_id="arena-contestants"):
            self._names = gr.Radio([BLIND, NAMED], value=BLIND, label="Names", min_width=220)
            self._first = self._contestant("First", self._models[0], preset)
            self._second = self._contestant("Second", self._models[1 % len(self._models)], other_preset)
        with gr.Accordion("Prefix, limit, seed and stop strings, the same for both", open=False):
            self._prefix = gr.Textbox(
                "", label="Prefix (“system”) text", placeholder="Stands before the whole conversation", max_lines=8
            )
            with gr.Row():
                limit = min(256, *(info.context_length // 2 for info in infos))
                self._max_tokens = gr.Number(
                    limit, label="Max tokens", placeholder="all that fit", min_width=110, elem_id="arena-max-tokens"
                )
                self._seed = gr.Textbox("", label="Seed", placeholder="random, one a side", max_lines=1, min_width=110)
                self._stop = gr.Textbox(
                    "", label="Stop strings", placeholder="one a line", lines=1, max_lines=4, min_width=110
                )

    def _contestant(self, which: str, model: str, preset: str) -> tuple[gr.Dropdown, gr.Dropdown]:
        models = [ANY_MODEL, *self._models] if len(self._models) > 1 else self._models
        settings = [(f"{name} ({_values(one)})", name) for name, one in PRESETS.items()]
        with gr.Column(min_width=240):
            return (
                gr.Dropdown(models, value=model, label=f"{which} model", filterable=False),
                gr.Dropdown(settings, value=preset, label=f"{which} setting", filterable=False),
            )

    @property
    def components(self) -> list[Any]:
        """The inputs whose values `new_round` takes, in its order."""
        return [self._names, *self._first, *self._second, self._prefix, self._max_tokens, self._seed, self._stop]

    def locked(self, is_locked: bool) -> Updates:
        """A round's sides and settings stay as they are until it is over, and so do the controls."""
        return {component: gr.update(interactive=not is_locked) for component in self.components}

    def new_round(self, values: Sequence[Any], random: Random) -> Round:
        """A round as the controls say.

        Raises:
            InvalidRequest: both sides are the same, or there is no such model or setting.
        """
        names, first_model, first_setting, second_model, second_setting, prefix, max_tokens, seed, stop = values
        first, second = (
            Choice(None if model == ANY_MODEL else model, setting)
            for model, setting in ((first_model, first_setting), (second_model, second_setting))
        )
        is_blind = names != NAMED
        sides, is_swapped = draw(first, second, self._models, is_blind=is_blind, random=random)
        shared = ChatSettings(prefix=prefix, max_tokens=max_tokens, seed=seed, stop=stop)
        # A preset's own limit would make one side shorter for no reason of its model.
        a, b = (replace(shared.filled(PRESETS[side.setting]), max_tokens=max_tokens) for side in sides)
        return Round(contestants=sides, settings=(a, b), is_blind=is_blind, is_swapped=is_swapped)


def _values(preset: Preset) -> str:
    """Such as `temperature 0.7, top-p 0.9`: what is not off."""
    parts = [f"temperature {preset.temperature:g}"]
    parts += [f"top-p {preset.top_p:g}"] if preset.top_p < 1 else []
    parts += [f"top-k {preset.top_k}"] if preset.top_k else []
    parts += [f"min-p {preset.min_p:g}"] if preset.min_p else []
    parts += [f"repeat penalty {preset.repetition_penalty:g}"] if preset.repetition_penalty != 1 else []
    return ", ".join(parts)

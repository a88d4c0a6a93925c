"""The controls beside all of the page: which model, by a head or by which labels, and how their likelihood is read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gradio as gr

from app.classify.choice import ZERO_SHOT, Choice
from app.classify.scoring import Scoring
from app.classify.template import chat_template, plain_template
from app.context import AppContext
from model.interface import Engine

SCORING_NAMES: dict[Scoring, str] = {
    "sum": "whole probability",
    "character": "per character (length-normalised)",
    "token": "per token (length-normalised)",
    "pmi": "gain over the question alone (PMI)",
}
EXPLAINED = """
A label's **whole probability** is lower the longer the label is. **Per character** and **per token** divide its
logarithm by the label's length, so that long labels have a chance; the probabilities shown are then flatter.

**Gain over the question alone** (pointwise mutual information, Holtzman et al. 2021) asks how much likelier the text
makes the label than it is after the question without the text. It takes away that some labels are common words and
others rare ones.

**Calibration** (Zhao et al. 2021) divides by the probabilities that texts get which say nothing, such as N/A, and so
takes away what the prompt and its examples prefer. With PMI and one such text the question alone cancels out.

Where several labels may hold, each is a question of its own: the probability is that of yes against no.
"""
DEFAULT_LABELS = "Positive\nNegative"

_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


class Controls:
    """The components; `inputs` are those of a :class:`Choice`, which `choice` makes from their values."""

    def __init__(self, context: AppContext) -> None:
        self._engines = context.engines
        names = list(context.engines)
        engine = context.engines[names[0]]
        self.model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, elem_id="classify-model")
        self.head = gr.Dropdown(head_choices(engine), value=ZERO_SHOT, label="Decide by", elem_id="classify-by")
        with gr.Column(elem_id="classify-zero-shot") as self._zero_shot:
            self.labels = gr.Textbox(
                DEFAULT_LABELS,
                label="Labels, one a line",
                info="Or name: description, which the template's {labels} shows",
                lines=3,
                max_lines=12,
                elem_id="classify-labels",
            )
            self.several = gr.Checkbox(False, label="Several labels may hold of one text")
            self.template = gr.Textbox(
                chat_template(engine, several=False),
                label="Template",
                info="{text} and {label}; {labels} lists all labels",
                lines=4,
                max_lines=12,
                elem_id="classify-template",
            )
            with gr.Row():
                self._chat = gr.Button("As a conversation", size="sm", min_width=100)
                self._plain = gr.Button("As plain text", size="sm", min_width=100)
            self.scoring = gr.Dropdown(
                [(told, value) for value, told in SCORING_NAMES.items()], value="sum", label="Likelihood of a label"
            )
            with gr.Accordion("Examples, calibration", open=False):
                self.examples = gr.Textbox(
                    "", label="Examples, one a line", placeholder="text => label", lines=3, max_lines=12
                )
                self.neutral = gr.Textbox(
                    "", label="Calibrate with neutral texts, one a line", placeholder="N/A", lines=1, max_lines=4
                )
                with gr.Row(visible=False) as self._answers:
                    self.yes = gr.Textbox("Yes", label="Answer for a label that holds", min_width=100)
                    self.no = gr.Textbox("No", label="Answer for one that does not", min_width=100)
            with gr.Accordion("What these mean", open=False):
                gr.Markdown(EXPLAINED)
        self.threshold = gr.Slider(
            0.05, 0.95, 0.5, step=0.05, label="Least probability of a chosen label", visible=False
        )
        self._connect()

    @property
    def inputs(self) -> list[Any]:
        """The components, in the order of `Choice`'s fields."""
        return [getattr(self, field.name) for field in fields(Choice)]

    def choice(self, values: tuple[Any, ...]) -> Choice:
        """From the inputs' values."""
        return Choice(**dict(zip((field.name for field in fields(Choice)), values, strict=True)))

    def _connect(self) -> None:
        shape = [self.model, self.head, self.several]
        self.model.change(self._choose_model, [self.model, self.several], [self.head, self.template], **_QUIET)
        for event in (self.head.change, self.several.change):
            event(self._reshape, shape, [self._zero_shot, self.threshold, self._answers], **_QUIET)
        self.several.change(self._as_chat, [self.model, self.several], self.template, **_QUIET)
        self._chat.click(self._as_chat, [self.model, self.several], self.template, **_QUIET)
        self._plain.click(lambda several: plain_template(several=several), self.several, self.template, **_QUIET)

    def _as_chat(self, model: str, several: bool) -> str:
        return chat_template(self._engines[model], several=several)

    def _choose_model(self, model: str, several: bool) -> tuple[Any, str]:
        heads = head_choices(self._engines[model])
        return gr.update(choices=heads, value=ZERO_SHOT), self._as_chat(model, several)

    def _reshape(self, model: str, head: str, several: bool) -> tuple[Any, Any, Any]:
        known = self._engines[model].heads.get(head)
        some = several if known is None else known.problem_type == "multi_label" or len(known.labels) == 1
        return (
            gr.update(visible=head == ZERO_SHOT),
            gr.update(visible=some),
            gr.update(visible=several and head == ZERO_SHOT),
        )


def head_choices(engine: Engine) -> list[tuple[str, str]]:
    """Zero-shot and the model's heads, for a dropdown."""
    heads = [(f"Trained head: {head.name} ({', '.join(head.labels[:6])})", name) for name, head in engine.heads.items()]
    return [("Zero-shot: the likelihood of labels", ZERO_SHOT), *heads]

"""Train a head: a file of labelled texts, a button, its measurements, and the head among those to choose from."""

from __future__ import annotations

import asyncio
import atexit
import html
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr

from app.classify.controls import Controls, head_choices
from app.classify.kept_heads import attach_kept, new_folder
from app.classify.trained_view import trained_html, training_html
from app.classify.training import Stage, train_on
from app.classify.upload import Upload
from app.context import AppContext
from app.look import problem_html
from app.updates import Updates
from model.interface import EngineError, InvalidRequest

SKIP, REFUSE = "leave them out, and say so", "train nothing"
TYPES = [".csv", ".jsonl"]
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class TrainPanel:
    """The panel's components and the handlers of their events."""

    def __init__(self, context: AppContext, controls: Controls) -> None:
        self._context = context
        self._controls = controls
        self._root = context.heads or _until_the_end()
        attach_kept(context.engines.values(), self._root)
        gr.Markdown(
            "A head is one matrix on what the model has understood of a text, fitted to texts that you have labelled: "
            "seconds to minutes, with the model chosen beside. A part of the texts is kept aside to measure it."
        )
        self.file = gr.File(
            label="Labelled texts, CSV or JSONL", file_types=TYPES, type="filepath", height=120, elem_id="train-file"
        )
        with gr.Row():
            self.text = gr.Dropdown([], label="Column with the texts", min_width=160)
            self.label = gr.Dropdown([], label="Column with the labels", min_width=160)
            self.name = gr.Textbox("my-head", label="Name of the head", min_width=160, max_lines=1)
        self.bad = gr.Radio([SKIP, REFUSE], value=SKIP, label="If rows cannot be used")
        with gr.Row():
            self.train = gr.Button("Train the head", variant="primary", min_width=140)
            self.stop = gr.Button("Stop training", variant="stop", min_width=100, interactive=False)
        self.problem = gr.Markdown("", elem_classes="problem", sanitize_html=False)
        self.progress = gr.Markdown("", sanitize_html=False, latex_delimiters=[])
        self.result = gr.Markdown("", sanitize_html=False, latex_delimiters=[], elem_id="train-result")
        outputs = [self.problem, self.progress, self.result, self.train, self.stop, controls.head]
        self.file.upload(self._look, self.file, [self.problem, self.text, self.label], **_QUIET)
        running = self.train.click(
            self._train,
            [controls.model, self.file, self.text, self.label, self.name, self.bad],
            outputs,
            concurrency_limit=None,
            trigger_mode="once",
            **_QUIET,
        )
        self.stop.click(self._stopped, None, outputs, cancels=[running], queue=False, **_QUIET)

    def _look(self, path: str) -> Updates:
        try:
            columns = list(Upload(path=Path(path)).columns())
        except InvalidRequest as error:
            return {self.problem: problem_html(error)}
        text = "text" if "text" in columns else columns[0]
        label = "label" if "label" in columns else columns[-1]
        return {
            self.problem: "",
            self.text: gr.update(choices=columns, value=text),
            self.label: gr.update(choices=columns, value=label),
        }

    async def _train(
        self, model: str, path: str | None, text: str, label: str, name: str, bad: str
    ) -> AsyncGenerator[Updates]:
        yield {self.problem: "", self.progress: "<p>Starting</p>", self.result: ""} | self._at_work(True)
        try:
            if path is None:
                raise InvalidRequest("there is no file: choose one with labelled texts first")
            engine = self._context.engine(model)
            folder = new_folder(engine, self._root, name.strip())
            steps = train_on(
                engine, Path(path), folder, text_column=text, label_column=label, skip_bad_rows=bad == SKIP
            )
            async with aclosing(steps):
                async for step in steps:
                    if isinstance(step, Stage):
                        yield {self.progress: training_html(step)}
                    else:
                        shown = await asyncio.to_thread(trained_html, step)
                        choices = gr.update(choices=head_choices(engine), value=step.info.name)
                        yield {self.result: shown, self._controls.head: choices}
        except EngineError as error:
            lines = "<br>".join(map(html.escape, str(error).splitlines()))
            yield {self.problem: f'<p role="alert">{lines}</p>'}
        yield {self.progress: ""} | self._at_work(False)

    def _stopped(self) -> Updates:
        return {self.progress: "<p>Stopped: nothing was kept.</p>"} | self._at_work(False)

    def _at_work(self, working: bool) -> Updates:
        return {self.train: gr.update(interactive=not working), self.stop: gr.update(interactive=working)}


def _until_the_end() -> Path:
    """A folder that is gone when the process has ended."""
    folder = Path(tempfile.mkdtemp(prefix="heads-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder

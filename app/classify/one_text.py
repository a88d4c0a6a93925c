"""One text: its labels as bars, and what moved the decision."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import gradio as gr

from app.classify.controls import Controls
from app.classify.occlusion import BETWEEN_UPDATES_S, Moved, what_moved
from app.classify.view import bars_html, moved_html
from app.context import AppContext
from app.look import problem_html
from app.updates import Updates
from model.interface import EngineError, InvalidRequest

EXAMPLE = "What a lovely film, and the soup was great!"
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class OneText:
    """The panel's components and the handlers of their events."""

    def __init__(self, context: AppContext, controls: Controls) -> None:
        self._context = context
        self._controls = controls
        self.text = gr.Textbox(EXAMPLE, label="Text", lines=4, max_lines=16, elem_id="classify-text")
        with gr.Row():
            self.run = gr.Button("Classify", variant="primary", min_width=120)
            self.explain = gr.Button("What moved it?", min_width=160)
            self.stop = gr.Button("Stop", variant="stop", min_width=80, interactive=False)
        self.problem = gr.Markdown("", elem_classes="problem", sanitize_html=False)
        self.progress = gr.Markdown("", elem_classes="progress", sanitize_html=False, latex_delimiters=[])
        self.bars = gr.Markdown("", sanitize_html=False, latex_delimiters=[], elem_id="classify-bars")
        self.moved = gr.Markdown("", sanitize_html=False, latex_delimiters=[], elem_id="classify-moved")
        inputs = [self.text, *controls.inputs]
        outputs = [self.problem, self.progress, self.bars, self.moved, self.run, self.explain, self.stop]
        many: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "once", **_QUIET}
        running = [
            self.run.click(self._classify, inputs, outputs, **many),
            self.explain.click(self._explain, inputs, outputs, **many),
        ]
        self.stop.click(lambda: self._running(False), None, outputs, cancels=running, queue=False, **_QUIET)

    async def _classify(self, text: str, *values: Any) -> AsyncGenerator[Updates]:
        async for updates in self._run(self._bars(text, values)):
            yield updates

    async def _explain(self, text: str, *values: Any) -> AsyncGenerator[Updates]:
        async for updates in self._run(self._moved(text, values)):
            yield updates

    async def _run(self, results: AsyncGenerator[Updates]) -> AsyncGenerator[Updates]:
        problem = ""
        yield {self.problem: "", self.progress: "<p>Classifying</p>"} | self._running(True)
        try:
            async with aclosing(results):
                async for updates in results:
                    yield updates
        except EngineError as error:
            problem = problem_html(error)
        yield {self.problem: problem} | self._running(False)

    async def _bars(self, text: str, values: tuple[Any, ...]) -> AsyncGenerator[Updates]:
        _refuse_blank(text)
        started = asyncio.ensure_future(self._predict(text, values))
        try:
            while not (await asyncio.wait({started}, timeout=BETWEEN_UPDATES_S))[0]:
                yield {self.progress: "<p>Classifying …</p>"}
            yield {self.bars: started.result(), self.moved: ""}
        finally:
            started.cancel()

    async def _predict(self, text: str, values: tuple[Any, ...]) -> str:
        classifier = await self._controls.choice(values).open(self._context)
        return bars_html(classifier, await classifier.classify(text))

    async def _moved(self, text: str, values: tuple[Any, ...]) -> AsyncGenerator[Updates]:
        _refuse_blank(text)
        classifier = await self._controls.choice(values).open(self._context)
        yield {self.bars: bars_html(classifier, await classifier.classify(text))}
        async with aclosing(what_moved(classifier, text)) as found:
            async for one in found:
                if isinstance(one, Moved):
                    yield {self.moved: moved_html(one)}
                else:
                    yield {self.progress: f"<p>{html.escape(one)}</p>"}

    def _running(self, running: bool) -> Updates:
        return {
            self.run: gr.update(interactive=not running),
            self.explain: gr.update(interactive=not running),
            self.stop: gr.update(interactive=running),
            **({} if running else {self.progress: ""}),
        }


def _refuse_blank(text: str) -> None:
    if not text.strip():
        raise InvalidRequest("the text is empty: write something first")

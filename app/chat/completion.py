"""A text that the model goes on with, without any chat format around it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import gradio as gr

from app.chat.controls import Controls, settings_of
from app.chat.session import LiveAnswers, TextStream
from app.chat.view import answer_facts
from app.context import AppContext
from app.live_page import LivePage, text_edits
from app.look import problem_html
from app.updates import Updates, all_unchanged
from model.interface import EngineError, InvalidRequest

MOST_UNDONE = 50


class CompletionTab:
    """Builds its components where it is made; `connect` gives it the settings beside it."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._live = LiveAnswers()
        self._before: gr.State = gr.State(())
        self._text = gr.Textbox(
            label="Text",
            placeholder="Begin a text; the model goes on with it. Edit it wherever you like in between.",
            lines=12,
            elem_id="text",
        )
        self._facts = gr.Markdown("", elem_id="text-facts")
        self._problem = gr.Markdown("", elem_classes="problem", sanitize_html=False)
        with gr.Row(elem_id="text-actions"):
            self._go = gr.Button("Go on", variant="primary", elem_id="go-on", scale=0, min_width=120)
            self._stop_button = gr.Button(
                "Stop writing", variant="stop", elem_id="stop-text", scale=0, min_width=120, visible=False
            )
            self._back = gr.Button("Take back", elem_id="take-back", scale=0, min_width=120)

    def connect(self, controls: Controls) -> None:
        """Events to handlers."""
        outputs = [self._text, self._before, self._facts, self._problem, self._go, self._stop_button]
        common: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self._go.click(
            self._write, [self._text, self._before, *controls.inputs], outputs, concurrency_limit=None, **common
        )
        self._back.click(self._take_back, [self._text, self._before], outputs, queue=False, **common)
        self._stop_button.click(self._stop, None, None, queue=False, **common)

    async def _write(self, request: gr.Request, text: str, before: tuple[str, ...], *chosen: Any) -> Updates:
        tab = request.session_hash or ""
        page = LivePage()
        if not await page.opened():
            return all_unchanged()
        try:
            if self._live.is_answering(tab):
                raise InvalidRequest("the text is still being written: wait for its end or press Stop")
            if not text:
                raise InvalidRequest("the text is empty: write its beginning first")
            model, settings = settings_of(chosen)
            prefix = f"{settings.prefix}\n\n" if settings.prefix.strip() else ""
            stream = TextStream(self._context.writer(model), prefix + text, settings, given=text)
        except EngineError as error:
            return {self._problem: problem_html(error)}
        self._live.add(tab, stream)
        try:
            first: Updates = {
                self._problem: "",
                self._before: (*before, text)[-MOST_UNDONE:],
                self._go: gr.update(visible=False),
                self._stop_button: gr.update(visible=True),
            }
            shown, facts = text, ""
            async with aclosing(stream.updates()) as answers:
                async for answer in answers:
                    if not page.is_open:
                        break
                    now = answer.text
                    now_facts = " · ".join(answer_facts(answer, names_model=len(self._context.writers) > 1))
                    if first and not answer.is_final:
                        await page.show(first | {self._text: now, self._facts: now_facts})
                        first = {}
                    elif not answer.is_final:
                        page.edit({self._text: text_edits(shown, now), self._facts: text_edits(facts, now_facts)})
                    shown, facts = now, now_facts
            ready = {self._go: gr.update(visible=True), self._stop_button: gr.update(visible=False)}
            return first | {self._text: shown, self._facts: facts} | ready
        finally:
            stream.stop()
            self._live.remove(tab, stream)

    def _take_back(self, request: gr.Request, text: str, before: tuple[str, ...]) -> Updates:
        try:
            if self._live.is_answering(request.session_hash or ""):
                raise InvalidRequest("the text is still being written: wait for its end or press Stop")
            if not before:
                raise InvalidRequest("there is nothing to take back: nothing was written yet")
        except InvalidRequest as error:
            return {self._problem: problem_html(error)}
        return {self._text: before[-1], self._before: before[:-1], self._facts: "", self._problem: ""}

    def _stop(self, request: gr.Request) -> None:
        self._live.stop(request.session_hash or "")

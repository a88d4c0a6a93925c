"""The Tokens page: a text, typed or written by the model, with the probability of each token, and how every loaded
model splits it."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.chat.settings import ChatSettings
from app.context import AppContext
from app.downloads import offer
from app.live_page import LivePage
from app.look import problem_html, title_html
from app.tokens.asking import score, write
from app.tokens.controls import answer_controls
from app.tokens.document import Document, make_document
from app.tokens.scored_csv import scored_csv
from app.tokens.scored_text import ScoredText
from app.tokens.tokenisation import tokenisation_csv, tokenisation_html, tokenise
from app.tokens.view import MOST_TOKENS, scored_html
from app.updates import Updates, all_unchanged
from model.interface import Engine, EngineError

ABOUT = "How probable each token of a text is to a model, what else it thought of, and how each model splits the text."
TYPED, WRITTEN = "typed", "written by the model"
RAW, CHAT = "raw text", "chat format"
RESULT_LIFE_S = 3600  # how long a closed tab's result is kept
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the controls held when the button was pressed."""

    model: str
    prompt: str
    answer: str
    how: str
    text_format: str
    num_top: float
    settings: ChatSettings

    def document(self, engine: Engine) -> Document:
        """The text as this engine's model reads it.

        Raises:
            InvalidRequest: there is none.
        """
        answer = self.answer if self.how == TYPED else ""
        return make_document(engine, self.prompt, answer, in_chat_format=self.text_format == CHAT)


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it."""
    _Tokens(context)


class _Tokens:
    """The page's components and the handlers of their events."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.engines = context.engines
        self.stops: dict[str, asyncio.Event] = {}  # of the browser tabs that are being answered
        self.result = gr.State(None, time_to_live=RESULT_LIFE_S)
        self.start = gr.State(0)
        gr.Markdown(title_html("Tokens", ABOUT), sanitize_html=False)
        with gr.Row(elem_id="tokens"):
            with gr.Column(scale=1, min_width=300, elem_id="tokens-controls"):
                self._controls(context)
            with gr.Column(scale=3, min_width=300, elem_id="tokens-result"), gr.Tabs():
                with gr.Tab("Probabilities"):
                    self.scored = gr.Markdown("", sanitize_html=False, latex_delimiters=[])
                    with gr.Row(visible=False, elem_id="tokens-turn") as self.turn:
                        self.earlier = gr.Button("Earlier tokens", size="sm")
                        self.shown = gr.Markdown("")
                        self.later = gr.Button("Later tokens", size="sm")
                    self.scored_file = gr.DownloadButton("Export as CSV", interactive=False, size="sm")
                with gr.Tab("Tokenisation"):
                    self.split = gr.Markdown("", sanitize_html=False, latex_delimiters=[])
                    self.split_file = gr.DownloadButton("Export as CSV", interactive=False, size="sm")
        self._connect()

    def _controls(self, context: AppContext) -> None:
        names = list(context.writers)
        self.model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, elem_id="tokens-model")
        self.prompt = gr.Textbox(
            "The capital of France is", label="Prompt", lines=4, max_lines=12, elem_id="tokens-prompt"
        )
        self.text_format = gr.Radio([RAW, CHAT], value=RAW, label="Read as")
        self.how = gr.Radio([TYPED, WRITTEN], value=TYPED, label="The answer is", elem_id="tokens-how")
        self.answer = gr.Textbox(
            " Paris.", label="Answer (may be empty)", lines=2, max_lines=8, elem_id="tokens-answer"
        )
        with gr.Accordion("Settings of the answer", open=False, visible=False) as self.settings_box:
            self.settings = answer_controls()
        self.num_top = gr.Slider(0, 20, 10, step=1, label="Alternatives at each token")
        with gr.Row():
            self.run_button = gr.Button("Show the tokens", variant="primary", min_width=120, elem_id="tokens-run")
            self.stop_button = gr.Button("Stop", variant="stop", min_width=80, interactive=False)
        self.problem = gr.Markdown("", elem_classes="problem", sanitize_html=False)
        self.progress = gr.Markdown("", elem_classes="progress", sanitize_html=False, latex_delimiters=[])

    def _connect(self) -> None:
        inputs = [
            *(self.model, self.prompt, self.answer, self.how, self.text_format, self.num_top),
            *self.settings.values(),
        ]
        outputs = [
            *(self.problem, self.progress, self.result, self.start, self.scored, self.turn, self.shown),
            *(self.scored_file, self.split, self.split_file, self.run_button, self.stop_button),
        ]
        gr.on(
            [self.run_button.click, self.prompt.submit, self.answer.submit],
            self._run,
            inputs,
            outputs,
            concurrency_limit=None,
            trigger_mode="once",
            **_QUIET,
        )
        self.stop_button.click(self._stop, None, None, queue=False, **_QUIET)
        self.how.change(self._choose_how, self.how, [self.answer, self.settings_box], queue=False, **_QUIET)
        for button, step in ((self.earlier, -MOST_TOKENS), (self.later, MOST_TOKENS)):
            button.click(
                lambda result, start, step=step: self._show(result, start + step),
                [self.result, self.start],
                [self.start, self.scored, self.turn, self.shown],
                queue=False,
                **_QUIET,
            )

    async def _run(
        self,
        request: gr.Request,
        model: str,
        prompt: str,
        answer: str,
        how: str,
        text_format: str,
        num_top: float,
        *settings: Any,
    ) -> Updates:
        page = LivePage()
        if not await page.opened():
            return all_unchanged()
        named = dict(zip(self.settings, settings, strict=True))
        asked = Asked(model, prompt, answer, how, text_format, num_top, ChatSettings(**named))
        tab, stop = request.session_hash or "", asyncio.Event()
        self.stops[tab] = stop
        problem = ""
        try:
            await page.show(self._progress("Splitting the text") | {self.problem: ""} | self._is_running(True))
            async with aclosing(self._results(asked, stop)) as updates:
                async for update in updates:
                    if not page.is_open:
                        return all_unchanged()
                    await page.show(update)
        except EngineError as error:
            problem = problem_html(error)
        finally:
            if self.stops.get(tab) is stop:
                del self.stops[tab]
        ended = self._progress("Stopped." if stop.is_set() else "")
        return {self.problem: problem} | ended | self._is_running(False)

    async def _results(self, asked: Asked, stop: asyncio.Event) -> AsyncGenerator[Updates]:
        engine, num_top = self.context.writer(asked.model), int(asked.num_top)
        document = await asyncio.to_thread(asked.document, engine)
        if asked.how == WRITTEN:
            ends = engine.chat_template.stop if asked.text_format == CHAT else ()
            updates = write(engine, document, asked.settings.sampling(ends), num_top=num_top, stop=stop)
        else:
            updates = score(engine, document, num_top=num_top, stop=stop)
        yield await asyncio.to_thread(self._tokenisation, asked)
        async with aclosing(updates):
            async for update in updates:
                if isinstance(update, str):
                    yield self._progress(update)
                else:
                    yield await asyncio.to_thread(self._result, update)

    def _progress(self, words: str) -> Updates:
        return {self.progress: f"<p>{html.escape(words)}</p>" if words else ""}

    def _result(self, scored: ScoredText) -> Updates:
        text = scored_csv(scored, self.engines[scored.model_name].tokenizer)
        return {self.result: scored, self.scored_file: offer(self.scored_file, "tokens.csv", text)} | self._show(
            scored, 0
        )

    def _tokenisation(self, asked: Asked) -> Updates:
        splits = [tokenise(engine, asked.document(engine).token_ids) for engine in self.engines.values()]
        return {
            self.split: tokenisation_html(splits),
            self.split_file: offer(self.split_file, "tokenisation.csv", tokenisation_csv(splits)),
        }

    def _show(self, result: ScoredText | None, start: int) -> Updates:
        """The part of a result that begins at a token."""
        if result is None:
            return {self.scored: ""}
        num_tokens = len(result.tokens)
        start = max(0, min(start, (num_tokens - 1) // MOST_TOKENS * MOST_TOKENS))
        end = min(start + MOST_TOKENS, num_tokens)
        return {
            self.start: start,
            self.scored: scored_html(result, self.engines[result.model_name].tokenizer, start=start),
            self.turn: gr.update(visible=num_tokens > MOST_TOKENS),
            self.shown: f"Tokens {start + 1:,} to {end:,} of {num_tokens:,}",
        }

    async def _stop(self, request: gr.Request) -> None:
        stop = self.stops.get(request.session_hash or "")
        if stop is not None:
            stop.set()

    def _is_running(self, running: bool) -> Updates:
        return {
            self.run_button: gr.update(interactive=not running),
            self.stop_button: gr.update(interactive=running),
        }

    def _choose_how(self, how: str) -> tuple[Any, Any]:
        return gr.update(visible=how == TYPED), gr.update(visible=how == WRITTEN)

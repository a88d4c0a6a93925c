"""The chat page: a conversation, the controls of sampling, and what each answer took.

Every event that makes the model write runs `_Chat.write`, which takes the conversation from before, the one to be
answered and the settings, and yields updates of the page. The conversation itself is kept in a `gr.State`; what the
chatbot shows is only made from it, so nothing a model writes can become part of the record by looking like it.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any

import gradio as gr

from app.chat.conversation import Conversation
from app.chat.session import AnswerStream, LiveAnswers
from app.chat.settings import ChatSettings
from app.chat.view import chatbot_messages, from_markdown
from app.context import AppContext
from app.look import header_html, problem_html
from model.interface import Engine, EngineError, EngineInfo, InvalidRequest

Updates = dict[Any, Any]
"""New values of Gradio components; those not in it stay as they are."""

PRESETS: dict[str, tuple[float, float, int, float, float]] = {
    "Greedy": (0.0, 1.0, 0, 0.0, 1.0),
    "Balanced": (0.7, 0.9, 0, 0.0, 1.0),
    "Creative": (1.0, 1.0, 0, 0.05, 1.0),
}
"""Temperature, top-p, top-k, min-p and repetition penalty."""

EXAMPLES_DEMONSTRATION = (
    "What is 3 plus 4?",
    "What is the capital of France?",
    "What is the opposite of hot?",
    "Write a Python function that doubles a number.",
)
EXAMPLES = (
    "Explain why the sky is blue to a ten-year-old.",
    "Write a Python function that merges two sorted lists.",
    "Name three rivers in Africa and the seas they flow into.",
    "Write a short letter that declines an invitation kindly.",
)

LATEX_DELIMITERS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it."""
    _Chat(context.default)


class _Chat:
    """The page's components and the handlers of their events."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.live = LiveAnswers()
        info = engine.info
        gr.Markdown(header_html(info), elem_id="model-header", sanitize_html=False)
        with gr.Row(elem_id="chat-and-settings"):
            with gr.Column(scale=3, min_width=300, elem_id="chat-column"):
                self.conversation = gr.State(Conversation())
                self.chatbot = _chatbot(info)
                self.problem = gr.Markdown("", elem_id="problem", elem_classes="problem", sanitize_html=False)
                with gr.Row(elem_id="write-row"):
                    self.box = gr.Textbox(
                        label="Your message",
                        show_label=False,
                        placeholder="Write a message. Enter sends it, Shift+Enter starts a new line.",
                        lines=1,
                        max_lines=10,
                        autofocus=True,
                        elem_id="message",
                        scale=5,
                    )
                    self.send_button = gr.Button("Send", variant="primary", elem_id="send", scale=0, min_width=96)
                    self.stop_button = gr.Button(
                        "Stop", variant="stop", elem_id="stop", scale=0, min_width=96, visible=False
                    )
            with gr.Column(scale=1, min_width=280, elem_id="settings-column"):
                self.new_chat_button = gr.Button("New conversation", elem_id="new-chat", size="sm")
                self.settings = self._settings(info)
        self._connect()

    def _settings(self, info: EngineInfo) -> dict[str, Any]:
        """The controls, by the names of `ChatSettings`' fields."""
        preset = "Greedy" if info.notice is not None else "Balanced"
        temperature, top_p, top_k, min_p, repetition_penalty = PRESETS[preset]
        with gr.Row(elem_id="presets"):
            preset_buttons = {
                name: gr.Button(name, size="sm", min_width=60, elem_id=f"preset-{name.lower()}") for name in PRESETS
            }
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
            controls["max_tokens"] = gr.Number(
                min(256, info.context_length // 2), label="Max tokens", min_width=110, placeholder="all that fit"
            )
            controls["seed"] = gr.Textbox("", label="Seed", placeholder="random", max_lines=1, min_width=110)
        controls["temperature"] = gr.Slider(0, 2, temperature, step=0.05, label="Temperature (0: greedy)")
        controls["top_p"] = gr.Slider(0.01, 1, top_p, step=0.01, label="Top-p (1: off)")
        controls["min_p"] = gr.Slider(0, 1, min_p, step=0.01, label="Min-p (0: off)")
        controls["repetition_penalty"] = gr.Slider(
            0.5, 2, repetition_penalty, step=0.01, label="Repeat penalty (1: off)"
        )
        with gr.Row():
            controls["top_k"] = gr.Number(top_k, label="Top-k (0: off)", min_width=110)
            controls["stop"] = gr.Textbox(
                "", label="Stop strings", placeholder="one a line", lines=1, max_lines=4, min_width=110
            )
        for name, control in controls.items():
            control.elem_id = f"setting-{name.replace('_', '-')}"
        filled = [controls[name] for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")]
        for name, button in preset_buttons.items():
            button.click(lambda values=PRESETS[name]: list(values), None, filled, queue=False, api_visibility="private")
        return controls

    def _connect(self) -> None:
        """Events to handlers."""
        names = [field.name for field in fields(ChatSettings)]
        settings = [self.settings[name] for name in names]
        outputs = [self.box, self.chatbot, self.conversation, self.problem, self.send_button, self.stop_button]
        writes: dict[str, Any] = {
            "outputs": outputs,
            "show_progress": "hidden",
            "concurrency_limit": None,
            "api_visibility": "private",
        }
        inputs = [self.box, self.conversation, *settings]
        gr.on([self.box.submit, self.send_button.click], self._send, inputs, **writes)
        self.chatbot.example_select(self._send_example, inputs, **writes)
        self.chatbot.retry(self._retry, inputs, **writes)
        self.chatbot.edit(self._edit, inputs, **writes)
        at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.chatbot.undo(self._undo, [self.box, self.conversation], outputs, **at_once)
        self.stop_button.click(self._stop, None, None, **at_once)
        for event in (self.new_chat_button.click, self.chatbot.clear):
            event(self._new_conversation, None, outputs, **at_once)

    async def _send(
        self, request: gr.Request, typed: str, conversation: Conversation, *settings: Any
    ) -> AsyncIterator[Updates]:
        try:
            asked = conversation.ask(typed)
        except InvalidRequest as error:
            yield self._problem(error)
            return
        async for updates in self._write(conversation, asked, settings, request, typed, clear_box=True):
            yield updates

    async def _send_example(
        self, request: gr.Request, chosen: gr.SelectData, typed: str, conversation: Conversation, *settings: Any
    ) -> AsyncIterator[Updates]:
        asked = conversation.ask(chosen.value["text"])
        async for updates in self._write(conversation, asked, settings, request, typed):
            yield updates

    async def _retry(
        self, request: gr.Request, typed: str, conversation: Conversation, *settings: Any
    ) -> AsyncIterator[Updates]:
        try:
            asked = conversation.retry()
        except InvalidRequest as error:
            yield self._problem(error)
            return
        async for updates in self._write(conversation, asked, settings, request, typed):
            yield updates

    async def _edit(
        self, request: gr.Request, edited: gr.EditData, typed: str, conversation: Conversation, *settings: Any
    ) -> AsyncIterator[Updates]:
        index = edited.index if isinstance(edited.index, int) else edited.index[0]
        text = from_markdown(str(edited.value))
        try:
            asked = conversation.edit(index // 2, text)
        except InvalidRequest as error:
            yield self._problem(error) | self._show(conversation)
            return
        async for updates in self._write(conversation, asked, settings, request, typed or text):
            yield updates

    async def _write(
        self,
        before: Conversation,
        asked: Conversation,
        settings: tuple[Any, ...],
        request: gr.Request,
        typed: str,
        *,
        clear_box: bool = False,
    ) -> AsyncIterator[Updates]:
        """Answer the last question of `asked`; if that cannot start, say why and leave `before` and `typed`."""
        tab = request.session_hash or ""
        try:
            if self.live.is_answering(tab):
                raise InvalidRequest("an answer is still being written: wait for its end or press Stop")
            names = [field.name for field in fields(ChatSettings)]
            answer_stream = AnswerStream(self.engine, asked, ChatSettings(**dict(zip(names, settings, strict=True))))
        except EngineError as error:
            yield self._problem(error) | self._show(before) | {self.box: gr.update(value=typed)}
            return
        self.live.add(tab, answer_stream)
        try:
            first: Updates = {
                self.problem: "",
                self.send_button: gr.update(visible=False),
                self.stop_button: gr.update(visible=True),
                **({self.box: gr.update(value="")} if clear_box else {}),
            }
            async for answer in answer_stream.updates():
                if answer_stream.discarded:
                    return
                answered = asked.answered(answer)
                updates = first | {self.chatbot: self._messages(answered)}
                if first or answer.is_final:
                    updates[self.conversation] = answered
                if answer.is_final:
                    self.live.remove(tab, answer_stream)
                    updates[self.send_button] = gr.update(visible=True)
                    updates[self.stop_button] = gr.update(visible=False)
                first = {}
                yield updates
        finally:
            answer_stream.stop()
            self.live.remove(tab, answer_stream)

    def _undo(self, request: gr.Request, typed: str, conversation: Conversation) -> Updates:
        try:
            if self.live.is_answering(request.session_hash or ""):
                raise InvalidRequest("an answer is still being written: wait for its end or press Stop")
            before, question = conversation.undo()
        except InvalidRequest as error:
            return self._problem(error) | self._show(conversation)
        text = f"{question}\n{typed}" if typed.strip() else question
        return self._show(before) | {self.box: gr.update(value=text), self.problem: ""}

    def _stop(self, request: gr.Request) -> None:
        self.live.stop(request.session_hash or "")

    def _new_conversation(self, request: gr.Request) -> Updates:
        self.live.discard(request.session_hash or "")
        return self._show(Conversation()) | {
            self.problem: "",
            self.send_button: gr.update(visible=True),
            self.stop_button: gr.update(visible=False),
        }

    def _messages(self, conversation: Conversation) -> list[dict[str, object]]:
        return chatbot_messages(conversation, self.engine.info.context_length)

    def _show(self, conversation: Conversation) -> Updates:
        return {self.chatbot: self._messages(conversation), self.conversation: conversation}

    def _problem(self, error: Exception) -> Updates:
        return {self.problem: problem_html(error)}


def _chatbot(info: EngineInfo) -> gr.Chatbot:
    examples = EXAMPLES if info.notice is None else EXAMPLES_DEMONSTRATION
    return gr.Chatbot(
        label="Conversation",
        show_label=False,
        elem_id="conversation",
        height="100%",
        editable="all",
        buttons=["copy", "copy_all"],
        latex_delimiters=LATEX_DELIMITERS,
        sanitize_html=True,
        allow_tags=False,
        render_markdown=True,
        line_breaks=True,
        layout="bubble",
        feedback_options=None,
        allow_file_downloads=False,
        placeholder=f"<strong>Ask {html.escape(info.model_name)} something</strong>",
        examples=[{"text": text} for text in examples],
    )

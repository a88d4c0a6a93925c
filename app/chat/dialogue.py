"""The open conversation: messages and answers, the box to write in, and what can be done with them.

Every event that makes the model write runs `Dialogue._write`, which takes the conversation from before, the one to be
answered and the settings, and updates the page as the answer grows. The conversation itself is kept in a `gr.State`;
what the chatbot shows is only made from it, so nothing a model writes can become part of the record by looking like it.
"""

from __future__ import annotations

import html
from contextlib import aclosing
from typing import Any

import gradio as gr

from app.chat.attachment import MAX_BYTES, TYPES, as_message
from app.chat.controls import Controls, settings_of
from app.chat.conversation import Answer, Conversation
from app.chat.library import LibraryPanel
from app.chat.meter import meter_html, num_tokens
from app.chat.session import AnswerStream, LiveAnswers
from app.chat.view import answer_facts, answer_message, chatbot_messages, edited_text
from app.context import AppContext
from app.live_page import LastMessage, LivePage
from app.look import problem_html
from app.updates import Updates, all_unchanged
from app.uploads import taken
from model.interface import EngineError, EngineInfo, InvalidRequest

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

STILL_WRITING = "an answer is still being written: wait for its end or press Stop"


class Dialogue:
    """Builds its components where it is made; `connect` gives it the panels beside it."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._live = LiveAnswers()
        self._opened: dict[str, Conversation] = {}  # by tab, what took the place of an answer being written
        self.conversation = gr.State(Conversation())
        self.chatbot = _chatbot(context.default.info)
        self.problem = gr.Markdown("", elem_id="problem", elem_classes="problem", sanitize_html=False)
        with gr.Row(elem_id="write-row"):
            self._attach = gr.UploadButton(
                "Attach", file_types=list(TYPES), elem_id="attach", size="md", scale=0, min_width=76
            )
            self._box = gr.Textbox(
                label="Your message",
                show_label=False,
                placeholder="Write a message. Enter sends it, Shift+Enter starts a new line.",
                lines=1,
                max_lines=10,
                autofocus=True,
                elem_id="message",
                scale=5,
            )
            self._send_button = gr.Button("Send", variant="primary", elem_id="send", scale=0, min_width=84)
            self._stop_button = gr.Button("Stop", variant="stop", elem_id="stop", scale=0, min_width=84, visible=False)
        with gr.Row(elem_id="below-box"):
            self._meter = gr.Markdown(
                meter_html(0, context.default.info.context_length), elem_id="context-meter", sanitize_html=False
            )
            self._continue_button = gr.Button("Continue the answer", elem_id="continue", size="sm", scale=0)
        self.outputs = [
            self._box,
            self.chatbot,
            self.conversation,
            self.problem,
            self._send_button,
            self._stop_button,
        ]

    def connect(self, library: LibraryPanel, controls: Controls) -> None:
        """Events to handlers."""
        self._library = library
        writes: dict[str, Any] = {
            "outputs": [*self.outputs, *library.outputs],
            "show_progress": "hidden",
            "concurrency_limit": None,
            "api_visibility": "private",
        }
        inputs = [self._box, self.conversation, library.search, *controls.inputs]
        gr.on([self._box.submit, self._send_button.click], self._send, inputs, **writes)
        self.chatbot.example_select(self._send_example, inputs, **writes)
        self.chatbot.retry(self._retry, inputs, **writes)
        self.chatbot.edit(self._edit, inputs, **writes)
        self._continue_button.click(self._continue, inputs, **writes)
        now: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.chatbot.undo(self._undo, inputs, writes["outputs"], **now)
        self._stop_button.click(self._stop, None, None, **now)
        self._attach.upload(self._add_file, [self._attach, self._box], [self._box, self.problem], **now)
        gr.on(
            [self._box.change, self.conversation.change, controls.model.change, controls.prefix.change],
            self._measure,
            [self._box, self.conversation, controls.model, controls.prefix],
            self._meter,
            trigger_mode="always_last",
            **now,
        )
        for event in (library.new_button.click, self.chatbot.clear):
            event(self._new, library.search, writes["outputs"], **now)

    def open(self, request: gr.Request, conversation: Conversation) -> Updates:
        """Show another conversation; an answer being written in this tab is stopped, and kept as far as it came."""
        tab = request.session_hash or ""
        if self._live.is_answering(tab):
            self._opened[tab] = conversation
            self._live.discard(tab)
        return self._show(conversation) | self._ready() | {self.problem: ""}

    def problem_of(self, error: Exception) -> Updates:
        """Say why something was not done."""
        return {self.problem: problem_html(error)}

    async def _send(
        self, request: gr.Request, typed: str, conversation: Conversation, words: str, *chosen: Any
    ) -> Updates:
        try:
            asked = conversation.ask(typed)
        except InvalidRequest as error:
            return self.problem_of(error)
        return await self._write(conversation, asked, chosen, request, words, typed, clear_box=True)

    async def _send_example(
        self,
        request: gr.Request,
        example: gr.SelectData,
        typed: str,
        conversation: Conversation,
        words: str,
        *chosen: Any,
    ) -> Updates:
        asked = conversation.ask(example.value["text"])
        return await self._write(conversation, asked, chosen, request, words, typed)

    async def _retry(
        self, request: gr.Request, typed: str, conversation: Conversation, words: str, *chosen: Any
    ) -> Updates:
        try:
            asked = conversation.retry()
        except InvalidRequest as error:
            return self.problem_of(error)
        return await self._write(conversation, asked, chosen, request, words, typed)

    async def _continue(
        self, request: gr.Request, typed: str, conversation: Conversation, words: str, *chosen: Any
    ) -> Updates:
        try:
            asked = conversation.continued()
        except InvalidRequest as error:
            return self.problem_of(error)
        return await self._write(conversation, asked, chosen, request, words, typed)

    async def _edit(
        self,
        request: gr.Request,
        edited: gr.EditData,
        typed: str,
        conversation: Conversation,
        words: str,
        *chosen: Any,
    ) -> Updates:
        message = edited.index if isinstance(edited.index, int) else edited.index[0]
        text = edited_text(edited.value)
        if text is None:
            return all_unchanged()
        try:
            turn, is_answer = divmod(message, 2)
            asked = conversation.edit_answer(turn, text) if is_answer else conversation.edit(turn, text)
        except InvalidRequest as error:
            return self.problem_of(error) | self._show(conversation)
        kept = typed if is_answer else typed or text
        return await self._write(conversation, asked, chosen, request, words, kept)

    async def _write(
        self,
        before: Conversation,
        asked: Conversation,
        chosen: tuple[Any, ...],
        request: gr.Request,
        words: str,
        typed: str,
        *,
        clear_box: bool = False,
    ) -> Updates:
        """Answer the last question of `asked`; if that cannot start, say why and leave `before` and `typed`."""
        tab, owner = request.session_hash or "", self._context.owner(request)
        store = self._library.store
        page = LivePage()
        if not await page.opened():
            return all_unchanged()
        try:
            if self._live.is_answering(tab):
                raise InvalidRequest(STILL_WRITING)
            model, settings = settings_of(chosen)
            stream = AnswerStream(self._context.writer(model), asked, settings)
        except EngineError as error:
            return self.problem_of(error) | self._show(before) | {self._box: typed}
        self._live.add(tab, stream)
        answered = asked.answered(stream.cut())
        try:
            store.add(owner, asked)
            first: Updates = {
                self.problem: "",
                self._send_button: gr.update(visible=False),
                self._stop_button: gr.update(visible=True),
                **({self._box: ""} if clear_box else {}),
                **self._library.show(owner, words, asked.identity),
            }
            last: LastMessage | None = None
            async with aclosing(stream.updates()) as answers:
                async for answer in answers:
                    if stream.discarded or not page.is_open:
                        break
                    answered = asked.answered(answer)
                    if answer.is_final:  # which is what the handler returns
                        continue
                    if last is None:
                        messages = self._messages(answered)
                        await page.show(first | {self.chatbot: messages, self.conversation: answered})
                        first, last = {}, LastMessage(messages)
                    else:
                        page.edit({self.chatbot: last.edits(answer_message(answer, self._facts(answer)))})
            self._live.remove(tab, stream)
            if stream.discarded:  # what was sent before may arrive after what took its place
                return self._show(self._opened.pop(tab, Conversation())) | self._ready()
            return first | self._show(answered) | self._ready()
        finally:
            stream.stop()
            self._live.remove(tab, stream)
            end = answered.turns[-1].answer
            if end is None or not end.is_final:
                answered = asked.answered(stream.cut())
            store.update(owner, answered)

    def _undo(self, request: gr.Request, typed: str, conversation: Conversation, words: str, *chosen: Any) -> Updates:
        try:
            if self._live.is_answering(request.session_hash or ""):
                raise InvalidRequest(STILL_WRITING)
            before, question = conversation.undo()
        except InvalidRequest as error:
            return self.problem_of(error) | self._show(conversation)
        owner = self._context.owner(request)
        if before.turns:
            self._library.store.update(owner, before)
        else:
            self._library.store.delete(owner, before.identity)
        text = f"{question}\n{typed}" if typed.strip() else question
        shown = self._show(before) | self._library.show(owner, words, before.identity)
        return shown | {self._box: text, self.problem: ""}

    def _stop(self, request: gr.Request) -> None:
        self._live.stop(request.session_hash or "")

    def _new(self, request: gr.Request, words: str) -> Updates:
        owner = self._context.owner(request)
        return self.open(request, Conversation()) | self._library.show(owner, words, "")

    def _add_file(self, path: str, typed: str) -> Updates:
        try:
            message = as_message(*taken(path, at_most=MAX_BYTES))
        except InvalidRequest as error:
            return self.problem_of(error)
        return {self._box: f"{typed.rstrip()}\n\n{message}\n\n".lstrip(), self.problem: ""}

    def _measure(self, typed: str, conversation: Conversation, model: str, prefix: str) -> str:
        engine = self._context.engines[model]
        return meter_html(num_tokens(engine, conversation, prefix=prefix, typed=typed), engine.info.context_length)

    def _messages(self, conversation: Conversation) -> list[dict[str, object]]:
        return chatbot_messages(conversation, self._facts)

    def _facts(self, answer: Answer) -> list[str]:
        return answer_facts(answer, names_model=len(self._context.writers) > 1)

    def _show(self, conversation: Conversation) -> Updates:
        return {self.chatbot: self._messages(conversation), self.conversation: conversation}

    def _ready(self) -> Updates:
        """The buttons while nothing is being written."""
        return {self._send_button: gr.update(visible=True), self._stop_button: gr.update(visible=False)}


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

"""The chat page: conversations on the left, the one that is open in the middle, the settings on the right."""

from __future__ import annotations

import html

import gradio as gr

from app.chat.completion import CompletionTab
from app.chat.controls import Controls
from app.chat.dialogue import Dialogue
from app.chat.library import LibraryPanel
from app.context import AppContext
from app.look import header_html


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it."""
    header = gr.Markdown(header_html(context.default.info), elem_id="model-header", sanitize_html=False)
    with gr.Row(elem_id="chat-and-settings"):
        with gr.Column(scale=1, min_width=200, elem_id="library-column"):
            library = LibraryPanel(context)
        with gr.Column(scale=3, min_width=300, elem_id="chat-column"), gr.Tabs(elem_id="modes"):
            with gr.Tab("Chat", elem_id="chat-mode"):
                dialogue = Dialogue(context)
            with gr.Tab("Complete a text", elem_id="completion-mode"):
                completion = CompletionTab(context)
        with gr.Column(scale=1, min_width=280, elem_id="settings-column"):
            controls = Controls(context)
    dialogue.connect(library, controls)
    completion.connect(controls)
    library.connect(dialogue)

    def show_model(name: str) -> dict[gr.Markdown | gr.Chatbot, object]:
        return {
            header: header_html(context.engines[name].info),
            dialogue.chatbot: gr.update(placeholder=f"<strong>Ask {html.escape(name)} something</strong>"),
        }

    controls.model.change(
        show_model,
        controls.model,
        [header, dialogue.chatbot],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )

"""The panel of conversations: list, search, open, rename, delete, export and import.

What is open is shown by the stage beside it, which this panel tells to show another one.
"""

from __future__ import annotations

import base64
import html
from dataclasses import replace
from typing import Any, Protocol

import gradio as gr

from app.chat.conversation import LONGEST_TITLE, Conversation
from app.chat.store import ConversationStore
from app.chat.transfer import MAX_IMPORT_BYTES, file_name, imported, to_json, to_readable
from app.context import AppContext
from app.updates import Updates
from app.uploads import taken
from model.interface import InvalidRequest

MOST_LISTED = 200


class Stage(Protocol):
    """What shows the open conversation, beside this panel.

    Attributes:
        conversation: a `gr.State` of the open one. problem: where it is said why something was not done.
        outputs: all that `open` updates.
    """

    conversation: gr.State
    problem: gr.Markdown
    outputs: list[Any]

    def open(self, request: gr.Request, conversation: Conversation) -> Updates:
        """Show another conversation in the tab of `request`."""
        ...

    def problem_of(self, error: Exception) -> Updates:
        """Say why something was not done."""
        ...


class LibraryPanel:
    """Builds the panel where it is made; `connect` gives it the page's side."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self.store = ConversationStore(context.database)
        self.new_button = gr.Button("New conversation", elem_id="new-chat", size="sm")
        self.search = gr.Textbox(
            label="Search conversations", show_label=False, placeholder="Search", max_lines=1, elem_id="search"
        )
        self.listed = gr.Radio([], label="Conversations", elem_id="conversations", show_label=False)
        self.note = gr.Markdown("", elem_id="library-note")
        with gr.Row(elem_id="library-actions"):
            self._rename_button = gr.Button("Rename", size="sm", min_width=60)
            self._delete_button = gr.Button("Delete", size="sm", min_width=60)
            self._export_button = gr.Button("Export", size="sm", min_width=60)
            self._import_button = gr.UploadButton("Import", size="sm", min_width=60, file_types=[".json", ".md"])
        with gr.Group(visible=False) as self._rename_panel:
            self._title = gr.Textbox(label="Title", max_lines=1, max_length=LONGEST_TITLE)
            with gr.Row():
                self._rename_save = gr.Button("Save title", size="sm", variant="primary", min_width=60)
                self._rename_cancel = gr.Button("Cancel", size="sm", min_width=60)
        with gr.Group(visible=False) as self._delete_panel:
            self._delete_question = gr.Markdown("", elem_id="delete-question", sanitize_html=False)
            with gr.Row():
                self._delete_yes = gr.Button("Delete it", size="sm", variant="stop", min_width=60)
                self._delete_no = gr.Button("Keep it", size="sm", min_width=60)
        self._links = gr.Markdown("", elem_id="export-links", sanitize_html=False)

    def connect(self, page: Stage) -> None:
        """Events to handlers."""
        self._page = page
        now: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        opened = page.conversation
        panels = [self._rename_panel, self._delete_panel, self._title, self._delete_question, self._links, page.problem]
        own = [*self.outputs, opened, page.problem, *panels[:2], self._links]
        page_and_list = [*page.outputs, *self.outputs, *panels[:2], self._links]
        gr.context.Context.root_block.load(self._list, [self.search, opened], self.outputs, **now)
        self.search.change(self._list, [self.search, opened], self.outputs, trigger_mode="always_last", **now)
        self.listed.input(self._open, [self.listed, self.search], page_and_list, **now)
        self._rename_button.click(self._ask_title, opened, panels, **now)
        gr.on(
            [self._rename_save.click, self._title.submit], self._rename, [self._title, opened, self.search], own, **now
        )
        self._delete_button.click(self._ask_delete, opened, panels, **now)
        self._delete_yes.click(self._delete, [opened, self.search], page_and_list, **now)
        gr.on([self._rename_cancel.click, self._delete_no.click], self._close_panels, None, panels, **now)
        self._export_button.click(self._export, opened, panels, **now)
        self._import_button.upload(self._import, [self._import_button, self.search], page_and_list, **now)

    @property
    def outputs(self) -> list[Any]:
        """What `show` updates."""
        return [self.listed, self.note]

    def show(self, owner: str, words: str, identity: str) -> Updates:
        """The list of what has these words, with one conversation marked as open."""
        found = self.store.listed(owner, words=words, limit=MOST_LISTED + 1)
        shown = found[:MOST_LISTED]
        note = ""
        if len(found) > MOST_LISTED:
            note = f"These are the last {MOST_LISTED}: search for older ones."
        elif not found:
            note = "No conversation has these words." if words.strip() else "Conversations will be kept here."
        is_listed = any(one.identity == identity for one in shown)
        choices = [(one.title, one.identity) for one in shown]
        return {
            self.listed: gr.update(choices=choices, value=identity if is_listed else None, visible=bool(shown)),
            self.note: note,
        }

    def _list(self, request: gr.Request, words: str, opened: Conversation) -> Updates:
        return self.show(self._context.owner(request), words, opened.identity)

    def _open(self, request: gr.Request, identity: str, words: str) -> Updates:
        owner = self._context.owner(request)
        conversation = self.store.load(owner, identity)
        if conversation is None:
            problem = InvalidRequest("this conversation was deleted: choose another one")
            return self._page.problem_of(problem) | self.show(owner, words, "")
        return self._page.open(request, conversation) | self._closed_panels() | {self.listed: identity}

    def _ask_title(self, opened: Conversation) -> Updates:
        if not opened.turns:
            return self._nothing_open()
        title = gr.update(value=opened.shown_title)
        return self._closed_panels() | {self._rename_panel: gr.update(visible=True), self._title: title}

    def _rename(self, request: gr.Request, title: str, opened: Conversation, words: str) -> Updates:
        owner = self._context.owner(request)
        self.store.rename(owner, opened.identity, title.strip())
        renamed = replace(opened, title=title.strip())
        return {self._page.conversation: renamed} | self._closed_panels() | self.show(owner, words, opened.identity)

    def _ask_delete(self, opened: Conversation) -> Updates:
        if not opened.turns:
            return self._nothing_open()
        question = f"<p>Delete “{html.escape(opened.shown_title)}” for good?</p>"
        return self._closed_panels() | {
            self._delete_panel: gr.update(visible=True),
            self._delete_question: question,
        }

    def _delete(self, request: gr.Request, opened: Conversation, words: str) -> Updates:
        owner = self._context.owner(request)
        self.store.delete(owner, opened.identity)
        return self._page.open(request, Conversation()) | self._closed_panels() | self.show(owner, words, "")

    def _export(self, request: gr.Request, opened: Conversation) -> Updates:
        every = self.store.load_all(self._context.owner(request))
        links = []
        if opened.turns:
            title = opened.shown_title
            links += [
                _link("This one as Markdown", file_name(title, "md"), to_readable(opened)),
                _link("This one as JSON", file_name(title, "json"), to_json([opened])),
            ]
        if every:
            links.append(_link(f"All {len(every)} as JSON", "conversations.json", to_json(every)))
        if not links:
            return self._nothing_open()
        return self._closed_panels() | {self._links: f'<div class="links">{"".join(links)}</div>'}

    def _import(self, request: gr.Request, path: str, words: str) -> Updates:
        owner = self._context.owner(request)
        try:
            conversations = imported(*taken(path, at_most=MAX_IMPORT_BYTES))
        except InvalidRequest as problem:
            return self._page.problem_of(problem)
        for conversation in reversed(conversations):
            self.store.add(owner, conversation)
        first = conversations[0]
        return self._page.open(request, first) | self._closed_panels() | self.show(owner, words, first.identity)

    def _nothing_open(self) -> Updates:
        return self._page.problem_of(InvalidRequest("no conversation is open: choose one, or ask something first"))

    def _close_panels(self) -> Updates:
        return self._closed_panels() | {self._page.problem: ""}

    def _closed_panels(self) -> Updates:
        return {
            self._rename_panel: gr.update(visible=False),
            self._delete_panel: gr.update(visible=False),
            self._links: "",
        }


def _link(text: str, name: str, content: str) -> str:
    """A link that holds its file: nothing is stored on the server for it."""
    data = base64.b64encode(content.encode()).decode()
    kind = "application/json" if name.endswith(".json") else "text/markdown"
    return f'<a download="{html.escape(name)}" href="data:{kind};charset=utf-8;base64,{data}">{html.escape(text)}</a>'

"""The pages of the app, in the order of the navigation bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

import app.arena.page
import app.chat.page
import app.classify.page
import app.leaderboard.page
import app.samples.page
import app.system.page
import app.tokens.page
from app.context import AppContext
from app.light_blocks import LightBlocks
from app.look import title_html

TITLE = "Persimmon workbench"
MAX_WAITING_EVENTS = 1000
NO_WRITER = "No model that was loaded can write: each is a classifier, for the page Classify."
CACHE_LIFE = (3600, 3600)  # seconds between looks at the files that were made for download, and how long they are kept


@dataclass(frozen=True, slots=True)
class PageEntry:
    """A page: its name in the navigation bar, its path, what fills it, and whether it needs a model that can write."""

    name: str
    path: str
    build: Callable[[AppContext], None]
    writes: bool = False


PAGES: tuple[PageEntry, ...] = (
    PageEntry("Chat", "/", app.chat.page.build_page, writes=True),
    PageEntry("Arena", "/arena", app.arena.page.build_page, writes=True),
    PageEntry("Tokens", "/tokens", app.tokens.page.build_page, writes=True),
    PageEntry("Classify", "/classify", app.classify.page.build_page),
    PageEntry("Leaderboard", "/leaderboard", app.leaderboard.page.build_page),
    PageEntry("Samples", "/samples", app.samples.page.build_page),
    PageEntry("System", "/system", app.system.page.build_page),
)
"""The first is the page at `/`."""


def build_pages(context: AppContext, *, has_login: bool = False) -> gr.Blocks:
    """All pages, ready to be mounted."""
    links = [("Log out", "logout")] if has_login else []
    first, *others = PAGES
    with LightBlocks(title=TITLE, analytics_enabled=False, delete_cache=CACHE_LIFE) as blocks:
        _build(first, context, links)
    for page in others:
        with blocks.route(page.name, page.path):
            _build(page, context, links)
    # Requests wait in the engines' queues, where they can be stopped and say so, never in Gradio's.
    running = sum(engine.info.max_num_requests for engine in context.engines.values())
    blocks.max_threads = max(blocks.max_threads, 4 * running, 256)
    blocks.queue(max_size=MAX_WAITING_EVENTS, api_open=False)
    return blocks


def _build(page: PageEntry, context: AppContext, links: list[tuple[str, str]]) -> None:
    gr.Navbar(links, main_page_name=PAGES[0].name)
    if page.writes and not context.writers:
        gr.Markdown(title_html(page.name, NO_WRITER), sanitize_html=False)
    else:
        page.build(context)

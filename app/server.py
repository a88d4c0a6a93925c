"""The web server: pages and the HTTP API over the engines of this process."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from app.accounts import Accounts
from app.api.options import ApiOptions
from app.api.request_log import RequestLog
from app.api.routes import api_routes, counted_path, is_api
from app.api.service import Service, by_name
from app.context import RESULTS, AppContext
from app.look import HEAD, THEME
from app.pages import build_pages
from app.security import SecurityHeaders
from app.store import Database
from app.uploads import MAX_UPLOAD_BYTES
from app.visitors import BrowserCookie
from model.interface import Engine


def create_app(
    engines: Sequence[Engine],
    options: ApiOptions | None = None,
    *,
    with_pages: bool = True,
    database: Database | None = None,
    heads: Path | None = None,
    results: Path = RESULTS,
    accounts: Accounts | None = None,
) -> FastAPI:
    """The application: the pages, with the chat at `/`, the state of the engines at `/health`, and the routes of
    `app.api`, whose `Service` is at `app.state.service`.

    The engines stay the caller's: whoever opened them closes them after the server has ended.

    Args:
        engines: at least one; the first is the default.
        options: limits of the API. with_pages: whether there are pages beside it.
        database: where pages keep what outlives the server, also the caller's; `None` keeps it in memory.
        heads: the folder of heads trained on the page; `None` keeps them as long as the server runs.
        results: the folder of evaluation records and the pages made from them.
        accounts: who may see the pages, after a login; `None` is everybody.

    Raises:
        InvalidRequest: two engines' models have one name.
    """
    service = Service(engines, options or ApiOptions())
    app = FastAPI(title="Persimmon workbench", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    app.add_middleware(SecurityHeaders)

    def count(path: str, status: int, seconds: float) -> None:
        service.counters.count(counted_path(path), status, seconds)

    app.add_middleware(RequestLog, is_api=is_api, count=count)
    app.router.routes.extend(api_routes(service))
    if with_pages:
        context = AppContext(
            engines=by_name(engines),
            database=database or Database(None),
            results=results,
            max_waiting=service.options.max_queue,
            heads=heads,
        )
        _mount_pages(app, context, accounts)
    return app


def _mount_pages(app: FastAPI, context: AppContext, accounts: Accounts | None) -> None:
    app.add_middleware(BrowserCookie)
    pages = build_pages(context, has_login=accounts is not None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported")  # which nobody asked for
        gr.mount_gradio_app(
            app,
            pages,
            path="/",
            theme=THEME,
            head=HEAD,
            auth=None if accounts is None else accounts.check,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            show_error=True,
            max_file_size=MAX_UPLOAD_BYTES,
        )
    # Gradio keeps a connection open for every tab to notice when it is closed, but a browser opens only six to one
    # server: three tabs being answered in one browser, or six idle ones, would leave none for a press of Stop. Without
    # it, a closed tab is noticed by its answer's own connection when the answer is next updated.
    pages.config["connect_heartbeat"] = False

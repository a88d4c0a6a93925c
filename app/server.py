"""The web server: pages and the HTTP API over one engine."""

from __future__ import annotations

import gradio as gr
from fastapi import FastAPI

from app.api.options import ApiOptions
from app.api.request_log import RequestLog
from app.api.routes import api_routes, counted_path, is_api
from app.api.service import Service
from app.chat_page import build_chat_page
from app.look import HEAD, THEME
from app.security import SecurityHeaders
from model.interface import Engine


def create_app(engine: Engine, options: ApiOptions | None = None, *, with_page: bool = True) -> FastAPI:
    """The application: the chat page at `/`, the state of the engine at `/health`, and the routes of `app.api`, whose
    `Service` is at `app.state.service`.

    The engine stays the caller's: whoever opened it closes it after the server has ended.

    Args:
        options: limits of the API. with_page: whether there is a chat page.
    """
    service = Service(engine, options or ApiOptions())
    app = FastAPI(title="Persimmon workbench", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    app.add_middleware(SecurityHeaders)

    def count(path: str, status: int, seconds: float) -> None:
        service.counters.count(counted_path(path), status, seconds)

    app.add_middleware(RequestLog, is_api=is_api, count=count)
    app.router.routes.extend(api_routes(service))
    if with_page:
        _mount_page(app, engine)
    return app


def _mount_page(app: FastAPI, engine: Engine) -> None:
    page = build_chat_page(engine)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=THEME,
        head=HEAD,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        show_error=True,
        max_file_size=1,  # byte: no page takes files, so nobody shall store any here
    )
    # Gradio keeps a connection open for every tab to notice when it is closed, but a browser opens only six to one
    # server: three tabs being answered in one browser, or six idle ones, would leave none for a press of Stop. Without
    # it, a closed tab is noticed by its answer's own connection when the answer is next updated.
    page.config["connect_heartbeat"] = False

"""The web server: pages and JSON routes over one engine."""

from __future__ import annotations

from dataclasses import asdict

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from app.chat_page import build_chat_page
from app.look import HEAD, THEME
from app.security import SecurityHeaders
from model.interface import Engine, EngineError


def create_app(engine: Engine) -> FastAPI:
    """The application: the chat page at `/`, the state of the engine at `/health`.

    The engine stays the caller's: whoever opened it closes it after the server has ended.
    """
    app = FastAPI(title="Persimmon workbench", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SecurityHeaders)

    @app.get("/health")
    def health() -> JSONResponse:
        """What runs and how busy it is; status 503 once the engine takes no more requests."""
        info = engine.info
        state = {
            "ready": True,
            "model_name": info.model_name,
            "device": info.device,
            "dtype": info.dtype,
            "attention_backend": info.attention_backend,
            "context_length": info.context_length,
            "notice": info.notice,
        }
        try:
            stats = engine.stats()
        except EngineError as error:
            return JSONResponse(state | {"ready": False, "error": str(error)}, status_code=503)
        return JSONResponse(state | {"stats": asdict(stats)})

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
    return app

"""`/health`: what runs and how busy it is; `/health/live` and `/health/ready` for whoever starts and stops servers."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.service import Service
from model.interface import EngineError


async def health(service: Service, request: Request) -> Response:
    """What runs and how busy it is; status 503 once the engine takes no more requests."""
    info = service.engine.info
    state = {
        "ready": True,
        "model_name": info.model_name,
        "device": info.device,
        "dtype": info.dtype,
        "attention_backend": info.attention_backend,
        "context_length": info.context_length,
        "notice": info.notice,
    }
    problem = _problem(service)
    if problem is not None:
        return JSONResponse(state | {"ready": False, "error": problem}, status_code=503)
    return JSONResponse(state | {"stats": asdict(service.engine.stats())})


async def live(service: Service, request: Request) -> Response:
    """Whether the process answers at all: restart it if not."""
    return JSONResponse({"live": True})


async def ready(service: Service, request: Request) -> Response:
    """Whether requests may be sent here."""
    problem = _problem(service)
    if problem is None:
        return JSONResponse({"ready": True})
    return JSONResponse({"ready": False, "error": problem}, status_code=503)


def _problem(service: Service) -> str | None:
    if service.gate.draining:
        return "the server is ending and takes no more requests"
    try:
        closed = service.engine.stats().is_closed
    except EngineError as error:
        return str(error)
    return "the engine takes no more requests" if closed else None

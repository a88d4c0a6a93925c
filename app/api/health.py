"""`/health`: what runs and how busy it is; `/health/live` and `/health/ready` for whoever starts and stops servers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.service import ServedModel, Service


async def health(service: Service, request: Request) -> Response:
    """What runs and how busy it is; status 503 once an engine takes no more requests."""
    problem = _problem(service)
    state = {"ready": problem is None, "models": [_state(model) for model in service.models.values()]}
    if problem is not None:
        return JSONResponse(state | {"error": problem}, status_code=503)
    return JSONResponse(state)


async def live(service: Service, request: Request) -> Response:
    """Whether the process answers at all: restart it if not."""
    return JSONResponse({"live": True})


async def ready(service: Service, request: Request) -> Response:
    """Whether requests may be sent here."""
    problem = _problem(service)
    if problem is None:
        return JSONResponse({"ready": True})
    return JSONResponse({"ready": False, "error": problem}, status_code=503)


def _state(model: ServedModel) -> dict[str, Any]:
    info = model.engine.info
    return {
        "model_name": info.model_name,
        "device": info.device,
        "dtype": info.dtype,
        "attention_backend": info.attention_backend,
        "attention_not_used": dict(info.attention_not_used),
        "kernels": info.kernels,
        "kernels_note": info.kernels_note,
        "context_length": info.context_length,
        "kv_cache_tokens": (info.num_blocks - 1) * info.block_size,
        "notice": info.notice,
        "stats": asdict(model.engine.stats()),
    }


def _problem(service: Service) -> str | None:
    if service.is_draining:
        return "the server is ending and takes no more requests"
    closed = [name for name, model in service.models.items() if model.engine.stats().is_closed]
    return f"the engine of {closed[0]} takes no more requests" if closed else None

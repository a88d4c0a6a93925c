"""`GET /v1/models`: the one model that runs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.service import Service


async def models(service: Service, request: Request) -> Response:
    """The list."""
    return JSONResponse({"object": "list", "data": [_model(service)]})


async def model(service: Service, request: Request) -> Response:
    """The one with the name in the path."""
    service.check_model(request.path_params["name"])
    return JSONResponse(_model(service))


def _model(service: Service) -> dict[str, Any]:
    info = service.engine.info
    return {
        "id": info.model_name,
        "object": "model",
        "created": service.started,
        "owned_by": info.family,
        "max_model_len": info.context_length,
    }

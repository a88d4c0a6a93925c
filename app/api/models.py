"""`GET /v1/models`: the models that run."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.service import ServedModel, Service


async def models(service: Service, request: Request) -> Response:
    """The list; the first is for requests that name none."""
    return JSONResponse({"object": "list", "data": [_model(service, model) for model in service.models.values()]})


async def model(service: Service, request: Request) -> Response:
    """The one with the name in the path."""
    return JSONResponse(_model(service, service.model(request.path_params["name"])))


def _model(service: Service, model: ServedModel) -> dict[str, Any]:
    info = model.engine.info
    return {
        "id": info.model_name,
        "object": "model",
        "created": service.started,
        "owned_by": info.family,
        "max_model_len": info.context_length,
    }

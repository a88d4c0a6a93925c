"""The API's routes, and what is the same for all of them: the key, errors in OpenAI's shape, the log."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.api import adept_api, health, models, tokenize
from app.api.chat import chat_completions
from app.api.completions import completions
from app.api.errors import ApiError, ClientGone, from_engine
from app.api.metrics import metrics
from app.api.openapi import openapi_document
from app.api.request_log import CLIENT_GONE, logger, note
from app.api.service import Service
from model.interface import EngineError

Handler = Callable[[Service, Request], Awaitable[Response]]

ROUTES: tuple[tuple[str, str, Handler, bool], ...] = (
    ("GET", "/v1/models", models.models, True),
    ("GET", "/v1/models/{name:path}", models.model, True),
    ("POST", "/v1/completions", completions, True),
    ("POST", "/v1/chat/completions", chat_completions, True),
    ("POST", "/tokenize", tokenize.tokenize, True),
    ("POST", "/detokenize", tokenize.detokenize, True),
    ("PUT", "/api", adept_api.generate, True),
    ("GET", "/healthz", adept_api.healthz, False),
    ("GET", "/health", health.health, False),
    ("GET", "/health/live", health.live, False),
    ("GET", "/health/ready", health.ready, False),
    ("GET", "/metrics", metrics, False),
)
"""Method, path, handler, and whether a key is needed where one is set."""

_FIXED = {path for _, path, _, _ in ROUTES if "{" not in path}


def api_routes(service: Service) -> list[BaseRoute]:
    """The routes; those of OpenAI's folder that are none answer in its shape too."""
    routes: list[BaseRoute] = []
    for method, path, handler, locked in ROUTES:
        # An endpoint that takes every method says itself which one it takes.
        endpoint = _guarded(service, handler, method=method, locked=locked)
        routes.append(Route(path, endpoint, methods=list(_METHODS), include_in_schema=False))
    document = openapi_document()

    async def openapi(service: Service, request: Request) -> Response:
        return JSONResponse(document)

    routes.append(Route("/openapi.json", _guarded(service, openapi, method="GET", locked=False)))
    unknown = _guarded(service, _unknown, method=None, locked=True)
    routes.append(Route("/v1/{path:path}", unknown, methods=list(_METHODS), include_in_schema=False))
    return routes


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def is_api(path: str) -> bool:
    """Whether a request is the API's, to be logged and counted; the page's are not."""
    return path in _FIXED or path.startswith("/v1/")


def counted_path(path: str) -> str:
    """The path to count a request under: a route's own, so that there are only so many."""
    if path in _FIXED:
        return path
    return "/v1/models/*" if path.startswith("/v1/models/") else "other"


def _guarded(
    service: Service, handler: Handler, *, method: str | None, locked: bool
) -> Callable[[Request], Awaitable[Response]]:
    """A handler whose every failure is an error reply."""

    async def endpoint(request: Request) -> Response:
        try:
            if locked:
                _check_key(request, service.options.api_key)
            if method is not None and request.method not in (method, "HEAD" if method == "GET" else method):
                raise ApiError(
                    405,
                    f"{request.method} is not allowed here: use {method}",
                    code="method_not_allowed",
                    headers={"Allow": method},
                )
            return await handler(service, request)
        except ClientGone:
            note(request.scope, outcome="client gone")
            return Response(status_code=CLIENT_GONE)
        except ApiError as error:
            reply = error
        except EngineError as error:
            reply = from_engine(error)
        except Exception:
            logger.exception("a request failed")
            reply = ApiError(500, "the server failed on this request: see its log", kind="server_error")
        note(request.scope, code=reply.code or reply.kind, param=reply.param)
        return reply.response()

    return endpoint


async def _unknown(service: Service, request: Request) -> Response:
    known = ", ".join(sorted(path for path in _FIXED if path.startswith("/v1/")))
    raise ApiError(404, f"{request.url.path[:200]} is not here: there are {known}", code="unknown_url")


def _check_key(request: Request, key: str | None) -> None:
    if key is None:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
        raise ApiError(
            401,
            "the API key is missing or wrong: send the server's as Authorization: Bearer <key>",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

"""Errors as OpenAI's API writes them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from model.interface import ContextLengthExceeded, EngineClosed, EngineError, InvalidRequest

SECONDS_UNTIL_BACK = 5  # Retry-After where the server is starting or ending: a supervisor needs about so long
_NAMED = re.compile(r"(\w+)=")  # how the engine's sentences begin that refuse a value


class ApiError(Exception):
    """A reply that refuses a request.

    Args:
        status: of HTTP. message: one sentence: which value, which rule, what to do.
        kind: OpenAI's `type`. param: the field at fault. code: for programs. headers: of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The reply's JSON."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The reply."""
        return JSONResponse(self.body, status_code=self.status, headers=self.headers)


class ClientGone(Exception):
    """The client closed its connection; nobody reads a reply."""


def refused(name: str, value: object, rule: str, *, status: int = 400) -> ApiError:
    """The error for a field whose value breaks a rule."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return ApiError(status, f"{name}={shown} is not allowed: {name} must be {rule}", param=name)


def unavailable(message: str) -> ApiError:
    """The error while the server takes no requests."""
    headers = {"Retry-After": str(SECONDS_UNTIL_BACK)}
    return ApiError(503, message, kind="service_unavailable_error", code="unavailable", headers=headers)


def timed_out(seconds: float) -> ApiError:
    """The error for a request that took too long."""
    message = f"the request took longer than the {seconds:g} seconds one may take here: ask for fewer tokens"
    return ApiError(408, message, kind="timeout_error", code="request_timeout")


def from_engine(error: EngineError, *, prompt_name: str = "prompt") -> ApiError:
    """What a client is told of an error of the engine; `prompt_name` is the field its prompt came in."""
    message = str(error)
    if isinstance(error, ContextLengthExceeded):
        return ApiError(400, message, param=prompt_name, code="context_length_exceeded")
    if isinstance(error, InvalidRequest):
        named = _NAMED.match(message)
        return ApiError(400, message, param=named[1] if named else prompt_name)
    if isinstance(error, EngineClosed):
        return unavailable(message)
    return ApiError(500, message, kind="server_error", code="engine_error")

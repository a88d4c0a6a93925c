"""One line a request: its id, what it asked for, how it ended. Never a prompt, an answer or a key."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("app.api")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_GONE = 499  # nginx's status for a client that went away


def note(scope: Scope, **facts: Any) -> None:
    """Add facts to the request's line."""
    scope.setdefault("app.api.facts", {}).update(facts)


class RequestLog:
    """ASGI middleware for the API's paths: gives every request an id (the client's own `X-Request-Id` if it is a plain
    one), sends it back, and logs and counts the request at its end. It does not buffer.

    Args:
        is_api: whether a path is the API's.
        count: called at the end with path, status and seconds.
    """

    def __init__(
        self, app: ASGIApp, *, is_api: Callable[[str], bool], count: Callable[[str, int, float], None]
    ) -> None:
        self.app = app
        self._is_api = is_api
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._is_api(scope["path"]):
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        facts: dict[str, Any] = {}
        scope["app.api.facts"] = facts
        status = CLIENT_GONE
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - began
            if facts.get("outcome") == "client gone":
                status = CLIENT_GONE
            self._count(scope["path"], status, seconds)
            client = scope.get("client")
            logger.info(
                "request",
                extra={
                    "facts": {
                        "request_id": request_id,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status,
                        "seconds": round(seconds, 4),
                        "client": client[0] if client else None,
                        **facts,
                    }
                },
            )


class JsonFormatter(logging.Formatter):
    """A record as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """A record as one line to read."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        parts = [_time(record), record.levelname.lower(), record.getMessage()]
        parts += [f"{name}={value!r}" if " " in str(value) else f"{name}={value}" for name, value in facts.items()]
        text = " ".join(parts).replace("\n", " ")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


def start_logging(log_format: str) -> None:
    """Log to the error stream: warnings of everything, requests of the API.

    Args:
        log_format: a name of :data:`FORMATTERS`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATTERS[log_format]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("app").setLevel(logging.INFO)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"

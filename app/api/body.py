"""A request's body: bounded in size and time, JSON, and of the right types."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from app.api.errors import ApiError, ClientGone, refused
from app.api.options import ApiOptions

Body = TypeVar("Body", bound=BaseModel)


async def read_object(request: Request, options: ApiOptions) -> dict[str, Any]:
    """The JSON object a client sent.

    Raises:
        ApiError: it is too large, too slow, no JSON or no object.
        ClientGone: the connection closed first.
    """
    try:
        async with asyncio.timeout(options.body_timeout_s):
            data = await _read(request, options.max_body_bytes)
    except TimeoutError:
        seconds = options.body_timeout_s
        raise ApiError(
            408, f"the body did not arrive within {seconds:g} seconds: send it at once", kind="timeout_error"
        ) from None
    except ClientDisconnect:
        raise ClientGone from None
    try:
        content = from_json(data, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON ({error}): send a JSON object in UTF-8") from None
    if not isinstance(content, dict):
        raise ApiError(400, f"the body is JSON but a {type(content).__name__}: send an object, as in {{...}}")
    return content


def checked(kind: type[Body], content: dict[str, Any]) -> Body:
    """The body as its model has it; fields the model does not know are dropped.

    Raises:
        ApiError: 422, with the first field of a wrong type.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "body"
        if first["type"] == "missing" and len(first["loc"]) == 1:
            raise ApiError(422, f"{name} is missing: give it", param=name) from None
        field = kind.model_fields.get(name)
        rule = (field.description if field else None) or first["msg"]
        raise refused(name, content.get(name), rule, status=422) from None


async def _read(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> ApiError:
    # The rest is not read, so the connection cannot be used again.
    return ApiError(
        413,
        f"the body has more than the {limit} bytes one may have here: send less",
        code="request_too_large",
        headers={"Connection": "close"},
    )

"""The API as an OpenAPI 3.1 document, for people, clients and fuzzers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.schemas import AdeptBody, ChatBody, CompletionBody, DetokenizeBody, TokenizeBody

_BODIES: tuple[tuple[str, str, str, type[BaseModel]], ...] = (
    ("post", "/v1/completions", "Continue texts or token ids", CompletionBody),
    ("post", "/v1/chat/completions", "Answer or continue a conversation", ChatBody),
    ("post", "/tokenize", "Token ids of a text or a conversation", TokenizeBody),
    ("post", "/detokenize", "The text of token ids", DetokenizeBody),
    ("put", "/api", "Generate or score, in the protocol of Adept's own server", AdeptBody),
)
_READS = (
    ("/v1/models", "The model that runs", "application/json"),
    ("/health", "What runs and how busy it is", "application/json"),
    ("/health/live", "Whether the process answers", "application/json"),
    ("/health/ready", "Whether requests may be sent", "application/json"),
    ("/metrics", "Counts and times for Prometheus", "text/plain"),
)
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_STATUSES = {
    "400": "a value breaks a rule, or the prompt is too long",
    "401": "the API key is missing or wrong",
    "404": "another model or path",
    "405": "another method",
    "408": "it took too long",
    "413": "the body is too large",
    "422": "a field has a wrong type",
    "429": "the queue is full; Retry-After says when to come again",
    "500": "the engine failed on this request",
    "503": "the server is starting or ending",
}


def openapi_document() -> dict[str, Any]:
    """The document."""
    _, definitions = models_json_schema(
        [(model, "validation") for *_, model in _BODIES], ref_template="#/components/schemas/{model}"
    )
    failures = {
        status: {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, text in _STATUSES.items()
    }
    paths: dict[str, Any] = {}
    for method, path, summary, model in _BODIES:
        paths[path] = {
            method: {
                "summary": summary,
                "security": [{}, {"key": []}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}},
                },
                "responses": {"200": _success("application/json", "text/event-stream"), **failures},
            }
        }
    for path, summary, kind in _READS:
        responses = {"200": _success(kind), **{status: failures[status] for status in ("401", "405")}}
        if path in ("/health", "/health/ready"):
            responses["503"] = _success(kind) | {"description": "requests are not taken now"}
        paths[path] = {"get": {"summary": summary, "responses": responses}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Persimmon workbench", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"] | {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _success(*kinds: str) -> dict[str, Any]:
    return {"description": "done", "content": {kind: {} for kind in kinds}}

"""What every route of the API works with."""

from __future__ import annotations

import time
import uuid
from typing import Any

from starlette.requests import Request

from app.api.admission import Gate
from app.api.counters import Counters
from app.api.errors import ApiError, refused
from app.api.options import ApiOptions
from model.interface import Completion, Engine, FinishReason, Priority

FINISH_REASONS: dict[FinishReason, str] = {"stop": "stop", "length": "length", "abort": "stop"}
PRIORITIES: dict[str, Priority] = {"interactive": "interactive", "batch": "batch"}


class Service:
    """One engine, its limits and its counts."""

    def __init__(self, engine: Engine, options: ApiOptions) -> None:
        self.engine = engine
        self.options = options
        self.gate = Gate(num_running=engine.info.max_num_requests, max_queue=options.max_queue)
        self.counters = Counters()
        self.started = int(time.time())

    @property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: of the weights."""
        return f"fp_{self.engine.info.weights_sha256[:12]}"

    def check_model(self, name: str | None) -> None:
        """Raise ApiError (404) if a client asks for another model than the one that runs."""
        info = self.engine.info
        if name is not None and name not in (info.model_name, info.source):
            raise ApiError(
                404,
                f"the model {name[:200]!r} is not here: use {info.model_name!r}",
                param="model",
                code="model_not_found",
            )

    def priority(self, request: Request, wanted: Priority | None) -> Priority:
        """From the body, or the header `X-Priority`; a person waits unless one of them says otherwise."""
        if wanted is not None:
            return wanted
        header = request.headers.get("x-priority", "interactive")
        if header not in PRIORITIES:
            raise refused("X-Priority", header, "'interactive' or 'batch'")
        return PRIORITIES[header]

    def envelope(self, prefix: str, kind: str) -> dict[str, Any]:
        """The fields every reply begins with."""
        return {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.engine.info.model_name,
            "system_fingerprint": self.fingerprint,
        }


def usage(prompt_lengths: list[int], completions: list[Completion], *, n: int) -> dict[str, Any]:
    """OpenAI's `usage`: a prompt counts once for all its `n` choices, of which the first found what was cached."""
    prompt_tokens = sum(prompt_lengths)
    completion_tokens = sum(len(one.token_ids) for one in completions)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(one.num_cached_tokens for one in completions[::n])},
    }

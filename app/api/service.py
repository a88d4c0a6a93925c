"""What every route of the API works with: the models there are, and what is counted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from app.api.admission import Gate
from app.api.counters import Counters
from app.api.errors import ApiError, refused
from app.api.options import ApiOptions
from model.interface import Completion, Engine, FinishReason, InvalidRequest, Priority

FINISH_REASONS: dict[FinishReason, str] = {"stop": "stop", "length": "length", "abort": "stop"}
PRIORITIES: dict[str, Priority] = {"interactive": "interactive", "batch": "batch"}


class ServedModel:
    """One engine, who may come in to it, and how its replies begin."""

    def __init__(self, engine: Engine, *, max_queue: int) -> None:
        self.engine = engine
        self.gate = Gate(num_running=engine.info.max_num_requests, max_queue=max_queue)

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.engine.info.model_name

    @property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: of the weights."""
        return f"fp_{self.engine.info.weights_sha256[:12]}"

    def envelope(self, prefix: str, kind: str) -> dict[str, Any]:
        """The fields every reply begins with."""
        return {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
            "system_fingerprint": self.fingerprint,
        }


class Service:
    """All models of this process, and the counts.

    Args:
        engines: at least one, each of another name; the first is for requests that name none.

    Raises:
        InvalidRequest: two have one name.
    """

    def __init__(self, engines: Sequence[Engine], options: ApiOptions) -> None:
        self.options = options
        self.models = {
            name: ServedModel(engine, max_queue=options.max_queue) for name, engine in by_name(engines).items()
        }
        self.default = self.models[engines[0].info.model_name]
        self.counters = Counters()
        self.started = int(time.time())

    def model(self, name: str | None) -> ServedModel:
        """The model a client asks for, by its name or its checkpoint's whole one; `None` is the default.

        Raises:
            ApiError: 404, there is none of this name.
        """
        if name is None:
            return self.default
        if name in self.models:
            return self.models[name]
        for model in self.models.values():
            if name == model.engine.info.source:
                return model
        known = ", ".join(map(repr, self.models))
        raise ApiError(
            404,
            f"the model {name[:200]!r} is not here: use {'one of ' if len(self.models) > 1 else ''}{known}",
            param="model",
            code="model_not_found",
        )

    def open_model(self, content: Mapping[str, Any]) -> ServedModel:
        """The model a body asks for, if one more answer may be asked of it now. Who cannot come in is told so before
        anything else is done: under overload most requests end here.

        Raises:
            ApiError: 404, 429 or 503.
        """
        name = content.get("model")
        model = self.model(name if isinstance(name, str) else None)
        model.gate.check_room(1)
        return model

    @property
    def is_draining(self) -> bool:
        """Whether the server is ending."""
        return self.default.gate.draining

    def drain(self) -> None:
        """Let nobody in any more."""
        for model in self.models.values():
            model.gate.draining = True

    @property
    def num_admitted(self) -> int:
        """Answers that clients wait for."""
        return sum(model.gate.num_admitted for model in self.models.values())


def by_name(engines: Sequence[Engine]) -> dict[str, Engine]:
    """Engines by their models' names, in their order.

    Raises:
        InvalidRequest: two have one name.
    """
    found: dict[str, Engine] = {}
    for engine in engines:
        name = engine.info.model_name
        if name in found:
            raise InvalidRequest(f"two models are named {name!r}: a model is asked for by its name, so give another")
        found[name] = engine
    return found


def priority_of(request: Request, wanted: Priority | None) -> Priority:
    """From the body, or the header `X-Priority`; a person waits unless one of them says otherwise."""
    if wanted is not None:
        return wanted
    header = request.headers.get("x-priority", "interactive")
    if header not in PRIORITIES:
        raise refused("X-Priority", header, "'interactive' or 'batch'")
    return PRIORITIES[header]


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

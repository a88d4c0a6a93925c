"""What whoever starts the server may set about the API."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiOptions:
    """Limits of the API, and its key.

    Attributes:
        api_key: what clients must send as `Authorization: Bearer`; `None` lets everybody in. It is in no `repr`.
        max_queue: most answers of API clients that wait beside those that run; more are refused with 429.
        request_timeout_s: longest time from a request's arrival to its last byte.
        body_timeout_s: longest time a client may take to send its request.
        max_body_bytes: of one request.
    """

    api_key: str | None = field(default=None, repr=False)
    max_queue: int = 256
    request_timeout_s: float = 600.0
    body_timeout_s: float = 30.0
    max_body_bytes: int = 4 * 2**20

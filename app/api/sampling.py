"""From a request's fields to the engine's sampling parameters, one set for each choice."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from app.api.errors import refused
from app.api.schemas import SamplingBody
from model.interface import MAX_SEED, MAX_TOP_LOGPROBS, SamplingParams

MAX_CHOICES = 128  # as OpenAI's n
SMALLEST_TOP_P = 1e-9  # OpenAI lets top_p be 0; then the most probable token is left


def sampling_params(
    body: SamplingBody,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    format_stop: Sequence[str] = (),
) -> list[SamplingParams]:
    """Parameters of the `n` choices of one prompt; they differ in their seeds, which follow the one given.

    Args:
        max_tokens: `None` is the rest of the context.
        logprobs: most probable tokens wanted at every place, `None` for no log-probabilities.
        format_stop: where the chat format itself ends an answer.

    Raises:
        ApiError, InvalidRequest: a value breaks its rule.
    """
    n = 1 if body.n is None else body.n
    if not 1 <= n <= MAX_CHOICES:
        raise refused("n", n, f"a whole number from 1 to {MAX_CHOICES}")
    if logprobs is not None and not 0 <= logprobs <= MAX_TOP_LOGPROBS:
        raise refused("logprobs", logprobs, f"a whole number from 0 to {MAX_TOP_LOGPROBS}")
    if body.seed is not None and not -(2**63) <= body.seed < 2**63:
        raise refused("seed", body.seed, "a whole number of 64 bits")
    first = secrets.randbits(32) if body.seed is None else body.seed
    stop = () if body.ignore_eos else tuple(format_stop)
    given = [body.stop] if isinstance(body.stop, str) else body.stop or []
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else SMALLEST_TOP_P if body.top_p == 0 else body.top_p,
        top_k=max(body.top_k, 0) if body.top_k is not None and body.top_k >= -1 else body.top_k or 0,
        min_p=body.min_p or 0.0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=_logit_bias(body),
        logprobs=logprobs,
        stop=tuple(dict.fromkeys([*stop, *given])),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
    )
    return [replace(params, seed=(first + index) % (MAX_SEED + 1)) for index in range(n)]


def _logit_bias(body: SamplingBody) -> dict[int, float]:
    biases: dict[int, float] = {}
    for key, bias in (body.logit_bias or {}).items():
        if not (key.isascii() and key.isdecimal() and len(key) <= 10):
            raise refused("logit_bias", key, "an object whose names are token ids, such as '50'")
        biases[int(key)] = bias
    return biases

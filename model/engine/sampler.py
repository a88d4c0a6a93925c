"""From logits to the next token of each request.

Every draw is a function of (seed, place in the answer) alone, so that a request's answer does not depend on what runs
beside it: one uniform number from a counter-based generator (Philox 4x64, Salmon et al. 2011) picks the token from the
cumulative distribution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.engine.request import Request
from model.interface import EngineError, SamplingParams


def sample(logits: Tensor, requests: Sequence[Request]) -> list[int]:
    """The next token of each request.

    Args:
        logits: [num_requests, vocab_size] float32; changed in place.
        requests: with sampling params; greedy ones (temperature 0) get the argmax, after the repetition penalty.

    Returns:
        [num_requests] token ids.

    Raises:
        EngineError: a row's largest logit is NaN or infinite.
    """
    params = [_params(request) for request in requests]
    for row, request, param in zip(logits, requests, params, strict=True):
        if param.repetition_penalty != 1.0:
            _penalize_repetition(row, request.token_ids, param.repetition_penalty)
    maximum, token_ids = logits.max(dim=-1)
    if not maximum.isfinite().all():
        raise EngineError("the model's logits are not finite: load it with --dtype float32 or bfloat16")
    # Rows with and without filters draw in different orders of the vocabulary, so each kind goes by itself: a row's
    # token must not depend on its neighbours.
    for filtered in (False, True):
        drawn = [i for i, param in enumerate(params) if param.temperature > 0 and _has_filter(param) is filtered]
        if drawn:
            uniforms = [uniform(requests[i].seed, requests[i].num_generated) for i in drawn]
            draw = _draw_filtered if filtered else _draw
            token_ids[drawn] = draw(
                logits[drawn],
                [params[i] for i in drawn],
                torch.tensor(uniforms, dtype=torch.float64, device=logits.device),
            )
    result: list[int] = token_ids.tolist()
    return result


def uniform(seed: int, step: int) -> float:
    """A number in [0, 1) that depends on seed and step only."""
    return float(np.random.Generator(np.random.Philox(key=seed, counter=step)).random())


def _params(request: Request) -> SamplingParams:
    if request.params is None:
        raise ValueError(f"request {request.request_id} is not for sampling")
    return request.params


def _penalize_repetition(row: Tensor, token_ids: Sequence[int], penalty: float) -> None:
    """In place: [vocab_size]. Positive logits of seen tokens are divided, negative multiplied (CTRL; as HF)."""
    seen = torch.tensor(sorted(set(token_ids)), device=row.device)
    values = row[seen]
    row[seen] = torch.where(values > 0, values / penalty, values * penalty)


def _has_filter(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _draw(logits: Tensor, params: Sequence[SamplingParams], uniforms: Tensor) -> Tensor:
    """Draw from all tokens: [num_rows, vocab_size] float32, uniforms [num_rows] float64 -> [num_rows] int64."""
    return _inverse_cdf(_tempered(logits, params).softmax(dim=-1), uniforms)


def _draw_filtered(logits: Tensor, params: Sequence[SamplingParams], uniforms: Tensor) -> Tensor:
    """As :func:`_draw`, from the tokens that top-k, top-p and min-p leave."""
    vocab_size = logits.shape[-1]
    logits, order = _tempered(logits, params).sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(vocab_size, device=logits.device)
    logits = logits.masked_fill(ranks >= _column(logits, [p.top_k or vocab_size for p in params]), -torch.inf)
    probabilities = logits.softmax(dim=-1)
    mass_before = probabilities.cumsum(dim=-1) - probabilities
    dropped = (ranks > 0) & (mass_before >= _column(logits, [p.top_p for p in params]))
    dropped |= probabilities < _column(logits, [p.min_p for p in params]) * probabilities[:, :1]
    chosen = _inverse_cdf(probabilities.masked_fill(dropped, 0.0), uniforms)
    return order.gather(-1, chosen[:, None])[:, 0]


def _tempered(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Logits over temperature, after their maximum is taken off: a temperature near 0 must not give inf - inf."""
    return (logits - logits.max(dim=-1, keepdim=True).values) / _column(logits, [p.temperature for p in params])


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    """[num_rows, 1] float32 on the device of `like`."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _inverse_cdf(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Index where the running sum passes `uniform` of the total: [num_rows, n] >= 0 -> [num_rows] int64."""
    cumulative = weights.double().cumsum(dim=-1)
    targets = uniforms[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, targets, right=True)[:, 0]
    # A rounded target may reach the total: the last index with weight is then the right one.
    last = weights.shape[-1] - 1 - (weights > 0).flip(-1).int().argmax(dim=-1)
    return torch.minimum(index, last)

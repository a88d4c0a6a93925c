"""From logits to the next token of each request.

Every draw is a function of (seed, place in the answer) alone, so that a request's answer does not depend on what runs
beside it. On a CPU one uniform number from a counter-based generator (Philox 4x64, Salmon et al. 2011) picks the token
from the cumulative distribution; on a GPU `kernels.sampling` draws it without the host, from the same distribution but
with other numbers: a seed gives another answer there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.sampling import DrawParams
from kernels.token_logprobs import stable_top_k
from model.interface import EngineError, SamplingParams, TokenLogprob

LOGPROB_ENTRIES = 2**21  # logits whose log-probabilities are taken at a time: some 50 MB


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One row of logits to draw from.

    Attributes:
        params: what shapes the distribution, and how many log-probabilities are wanted.
        seed, step: what the draw depends on; `step` is the token's place in the answer, from 0.
        prompt_token_ids, answer_token_ids: all that stands before the token, for the penalties.
    """

    params: SamplingParams
    seed: int
    step: int
    prompt_token_ids: Sequence[int]
    answer_token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token drawn, and its log-probability in the model's own distribution if `params.logprobs` is given."""

    token_id: int
    logprob: TokenLogprob | None


def sample(
    logits: Tensor,
    requests: Sequence[SampleRequest],
    *,
    draw: Callable[[Tensor, DrawParams], Tensor] | None = None,
) -> list[Sampled]:
    """The next token of each request; a row's result does not depend on the other rows.

    Args:
        logits: [num_requests, vocab_size] float32; changed in place.
        requests: one a row; greedy ones (temperature 0) get the argmax, after bias and penalties.
        draw: what draws, as `kernels.sampling.draw_reference`; `None`: from the cumulative distribution.

    Raises:
        EngineError: a row's largest logit is NaN or infinite.
    """
    edits = _edit(logits, requests)
    maximum, token_ids = logits.max(dim=-1)
    if not maximum.isfinite().all():
        raise EngineError("the model's logits are not finite: load it with --dtype float32 or bfloat16")
    params = [request.params for request in requests]
    if draw is not None:
        token_ids = draw(logits, draw_params(requests, logits.device))
    else:
        _draw_by_sums(logits, requests, params, token_ids)
    for index, model_logits in reversed(edits):
        logits[index] = model_logits
    logprobs = _logprobs(logits, params, token_ids)
    return [Sampled(token_id, logprobs.get(i)) for i, token_id in enumerate(token_ids.tolist())]


def _draw_by_sums(
    logits: Tensor, requests: Sequence[SampleRequest], params: Sequence[SamplingParams], token_ids: Tensor
) -> None:
    """Put what is drawn into `token_ids`. Rows with and without filters draw in different orders of the vocabulary, so
    each kind goes by itself: a row's token must not depend on its neighbours."""
    for filtered in (False, True):
        drawn = [i for i, param in enumerate(params) if param.temperature > 0 and _has_filter(param) is filtered]
        if drawn:
            uniforms = [uniform(requests[i].seed, requests[i].step) for i in drawn]
            draw = _draw_filtered if filtered else _draw
            token_ids[drawn] = draw(
                logits[drawn],
                [params[i] for i in drawn],
                torch.tensor(uniforms, dtype=torch.float64, device=logits.device),
            )


def draw_params(requests: Sequence[SampleRequest], device: torch.device) -> DrawParams:
    """What `kernels.sampling` draws by, of each request."""
    params = [request.params for request in requests]

    def shares(values: list[float]) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float32)).to(device)

    def counts(values: list[int]) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.int64)).to(device)

    return DrawParams(
        temperature=shares([param.temperature for param in params]),
        top_k=counts([param.top_k for param in params]),
        top_p=shares([param.top_p for param in params]),
        min_p=shares([param.min_p for param in params]),
        seed=counts([request.seed for request in requests]),
        step=counts([request.step for request in requests]),
    )


def uniform(seed: int, step: int) -> float:
    """A number in [0, 1) that depends on seed and step only."""
    return float(np.random.Generator(np.random.Philox(key=seed, counter=step)).random())


def _bias(request: SampleRequest) -> Mapping[int, float]:
    return request.params.logit_bias


def _add(logits: Tensor, biases: Tensor) -> Tensor:
    return logits + biases


def _repetition(request: SampleRequest) -> Mapping[int, float]:
    penalty = request.params.repetition_penalty
    return {} if penalty == 1 else dict.fromkeys([*request.prompt_token_ids, *request.answer_token_ids], penalty)


def _penalize_repetition(logits: Tensor, penalties: Tensor) -> Tensor:
    """Positive logits are divided, negative multiplied (CTRL; as HF)."""
    return torch.where(logits > 0, logits / penalties, logits * penalties)


def _frequency(request: SampleRequest) -> Mapping[int, float]:
    """frequency * count + presence * [count > 0] (OpenAI's API reference, frequency and presence penalties)."""
    frequency, presence = request.params.frequency_penalty, request.params.presence_penalty
    if frequency == 0 and presence == 0:
        return {}
    return {token: frequency * count + presence for token, count in Counter(request.answer_token_ids).items()}


_EDITS: tuple[tuple[Callable[[SampleRequest], Mapping[int, float]], Callable[[Tensor, Tensor], Tensor]], ...] = (
    (_bias, _add),
    (_repetition, _penalize_repetition),
    (_frequency, torch.sub),
)


def _edit(logits: Tensor, requests: Sequence[SampleRequest]) -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
    """Bias and penalties, in place, at the entries they touch: [num_requests, vocab_size] float32. Finite logits stay
    finite.

    Returns:
        What was overwritten, in order: (row and token indices, logits).
    """
    overwritten = []
    largest = torch.finfo(logits.dtype).max
    for amounts_of, change in _EDITS:
        rows: list[int] = []
        tokens: list[int] = []
        amounts: list[float] = []
        for row, request in enumerate(requests):
            if entries := amounts_of(request):
                rows += [row] * len(entries)
                tokens += entries.keys()
                amounts += entries.values()
        if rows:
            # Through NumPy, which reads a list several times faster than torch.
            row_index, token_index, amount = (
                torch.from_numpy(np.array(values, dtype=dtype)).to(logits.device)
                for values, dtype in ((rows, np.int64), (tokens, np.int64), (amounts, np.float64))
            )
            index = (row_index, token_index)
            before = logits[index]
            after = change(before.double(), amount)
            logits[index] = torch.where(before.isfinite(), after.clamp(-largest, largest).float(), before)
            overwritten.append((index, before))
    return overwritten


def _logprobs(logits: Tensor, params: Sequence[SamplingParams], token_ids: Tensor) -> dict[int, TokenLogprob]:
    """Of the rows that want them, by row: logits [num_requests, vocab_size] float32, token_ids [num_requests] int64.
    Ranks go by logit: two logits may round to one log-probability."""
    counts = {row: param.logprobs for row, param in enumerate(params) if param.logprobs is not None}
    wanted = list(counts)
    num_rows = max(1, LOGPROB_ENTRIES // logits.shape[-1])
    found: dict[int, TokenLogprob] = {}
    for start in range(0, len(wanted), num_rows):
        rows = wanted[start : start + num_rows]
        shifted = logits[rows]
        top_ids = stable_top_k(shifted, max(counts[row] for row in rows))[1]
        shifted -= shifted.max(dim=-1, keepdim=True).values
        ids = torch.cat([token_ids[rows][:, None], top_ids], dim=-1)
        # In float64 the order of the sum, which depends on the number of rows, does not show in the float32 result.
        totals = shifted.exp().sum(dim=-1, keepdim=True, dtype=torch.float64)
        logprobs = shifted.gather(-1, ids) - totals.log().float()
        for row, (token_id, *top), (logprob, *top_logprobs) in zip(rows, ids.tolist(), logprobs.tolist(), strict=True):
            pairs = tuple(zip(top, top_logprobs, strict=True))[: counts[row]]
            found[row] = TokenLogprob(token_id=token_id, logprob=logprob, top=pairs)
    return found


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
    """Logits over temperature, after their maximum is taken off: a temperature near 0 must not give inf - inf, nor one
    that float32 cannot hold 0 / 0."""
    temperatures = [max(p.temperature, torch.finfo(logits.dtype).tiny) for p in params]
    return (logits - logits.max(dim=-1, keepdim=True).values) / _column(logits, temperatures)


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

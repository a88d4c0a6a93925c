"""The next token of each row of logits, drawn without a host: the definition, in torch.

Which tokens may be drawn is what temperature, top-k, top-p and min-p leave, in this order. Among them the token with
the largest log-probability plus Gumbel noise is taken, which draws it with its probability (Gumbel 1954). The noise of
a token follows from the request's seed and the token's place in the answer alone: Philox4x32-10 (Salmon et al. 2011),
a generator without a state. So a draw depends neither on the other rows nor on what was drawn before.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NOISE_BLOCK = 1024
"""Tokens that share counters: token t takes word (t % 1024) // 256 of counter (t // 1024) * 256 + t % 256, so that
tokens side by side have counters side by side."""
_MASK = 0xFFFFFFFF
# Random123, philox.h: multipliers of 4x32 and what its two keys are raised by each round.
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_RAISES = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


class DrawParams(NamedTuple):
    """One entry a row, [num_rows].

    Attributes:
        temperature: 0 takes the largest logit, on equal ones the lower id. top_p, min_p: 1 and 0 are off. All three are
            float32, or float64 that is rounded to it first.
        top_k: int64, 0 is off.
        seed: int64. step: int64, the token's place in the answer, from 0.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    step: Tensor


def draw_reference(logits: Tensor, params: DrawParams) -> Tensor:
    """The next token of each row.

    Args:
        logits: [num_rows, vocab_size] float32, bias and penalties included; -inf forbids a token.

    Returns:
        [num_rows] int64. Of a row with a NaN, some token.
    """
    temperature = params.temperature.float()
    tempered = _tempered(logits, temperature)
    noise = exponential_noise(params.seed, params.step, logits.shape[-1]).log()
    noise = noise.masked_fill((temperature == 0)[:, None], 0.0)
    return (tempered - noise).masked_fill(~surviving_reference(logits, params), -torch.inf).argmax(dim=-1)


def surviving_reference(logits: Tensor, params: DrawParams) -> Tensor:
    """[num_rows, vocab_size] bool: the tokens that may be drawn. Of equal logits, lower ids come first."""
    vocab_size = logits.shape[-1]
    top_p, min_p = params.top_p.float()[:, None], params.min_p.float()[:, None]
    ordered, order = _tempered(logits, params.temperature.float()).sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(vocab_size, device=logits.device)
    most = torch.where(params.top_k > 0, params.top_k, vocab_size)[:, None]
    probabilities = ordered.masked_fill(ranks >= most, -torch.inf).softmax(dim=-1)
    mass_before = probabilities.cumsum(dim=-1) - probabilities
    kept = (mass_before < top_p) | (ranks == 0) | (top_p >= 1)
    kept &= probabilities >= min_p * probabilities[:, :1]
    kept &= probabilities > 0
    return torch.zeros_like(kept).scatter(-1, order, kept)


def exponential_noise(seeds: Tensor, steps: Tensor, vocab_size: int) -> Tensor:
    """Numbers of an exponential distribution with mean 1: seeds and steps [num_rows] int64 -> [num_rows, vocab_size]
    float32, infinite once in 2^25.

    They are -log(1 - u) with u = (word + 1/2) / 2^32: where it matters, near 0, u is exact to 2^-32, and a draw from
    the whole vocabulary has no ties.
    """
    tokens = torch.arange(vocab_size, device=seeds.device)
    quarter = NOISE_BLOCK // 4
    counters = tokens // NOISE_BLOCK * quarter + tokens % quarter
    words = philox(
        (counters[None], (steps & _MASK)[:, None], (steps >> 32 & _MASK)[:, None], torch.zeros_like(counters)[None]),
        ((seeds & _MASK)[:, None], (seeds >> 32 & _MASK)[:, None]),
    )
    which = (tokens % NOISE_BLOCK // quarter).expand(len(seeds), -1)
    word = torch.stack(words).gather(0, which[None])[0]
    uniform = (word.float() + 0.5) * 2.0**-32
    return -torch.log1p(-uniform)


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10 on four words of a counter and two of a key, int64 holding 32 bits each; the same of the result."""
    first, second, third, fourth = counter
    low, high = key
    for _ in range(_ROUNDS):
        # Products of 32 bits by 32 wrap in int64; a shift and a mask read their upper half right all the same.
        one, two = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        first, second, third, fourth = (
            (two >> 32 & _MASK) ^ second ^ low,
            two & _MASK,
            (one >> 32 & _MASK) ^ fourth ^ high,
            one & _MASK,
        )
        low, high = (low + _RAISES[0]) & _MASK, (high + _RAISES[1]) & _MASK
    return first, second, third, fourth


def _tempered(logits: Tensor, temperature: Tensor) -> Tensor:
    """Logits less the row's largest, over the temperature: one near 0 must not give inf - inf."""
    least = torch.finfo(logits.dtype).tiny
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature.clamp(min=least)[:, None]

"""Sampling against Hugging Face's filters, and against the distribution it must follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model.engine.request import Request
from model.engine.sampler import sample, uniform
from model.interface import EngineError, SamplingParams

VOCABULARY = 23


def request(params: SamplingParams, seed: int, step: int = 0) -> Request:
    return Request(
        request_id=seed,
        token_ids=[4, 9] + [4] * step,
        num_prompt_tokens=2,
        deliver=lambda event: None,
        arrival_s=0.0,
        params=params,
        seed=seed,
    )


def random_logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2.5


def hugging_face_probabilities(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    warpers = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        warpers.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    warpers.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        warpers.append(MinPLogitsWarper(params.min_p))
    scores: torch.Tensor = warpers(torch.tensor([[4, 9]]), logits[None].clone())
    return scores[0].softmax(-1)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.6),
        SamplingParams(top_k=5),
        SamplingParams(top_p=0.8),
        SamplingParams(min_p=0.1),
        SamplingParams(repetition_penalty=1.7),
        SamplingParams(temperature=1.4, top_k=12, top_p=0.9, min_p=0.02, repetition_penalty=1.3),
        SamplingParams(top_p=1e-9),
        SamplingParams(top_k=1),
    ],
    ids=repr,
)
def test_draws_follow_hugging_faces_distribution(params: SamplingParams) -> None:
    """Chi-square over 20,000 seeded draws at a false-alarm rate of 1e-6 a case; nothing outside the support."""
    logits = random_logits()
    expected = hugging_face_probabilities(logits, params).double().numpy()
    count = 20_000
    batch = [request(params, seed) for seed in range(count)]
    drawn = np.bincount(sample(logits.repeat(count, 1), batch), minlength=VOCABULARY)
    assert not drawn[expected == 0].any()
    likely = expected * count >= 5
    observed = np.append(drawn[likely], drawn[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum()) * count
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    # Wilson-Hilferty: the chi-square quantile at 1 - 1e-6 (normal quantile 4.7534)
    freedom = len(wanted) - 1
    bound = freedom * (1 - 2 / (9 * freedom) + 4.7534 * (2 / (9 * freedom)) ** 0.5) ** 3 if freedom else 1e-9
    assert statistic <= bound


def test_greedy_is_the_argmax_after_the_penalty() -> None:
    logits = torch.tensor([[0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, -1.0]])
    assert sample(logits.clone(), [request(SamplingParams(temperature=0.0), 0)]) == [4]
    assert sample(logits.clone(), [request(SamplingParams(temperature=0.0, repetition_penalty=2.0), 0)]) == [1]
    # negative logits of seen tokens sink further
    low = torch.full((1, 10), -3.0)
    low[0, 9], low[0, 4] = -1.0, -9.0
    assert sample(low, [request(SamplingParams(temperature=0.0, repetition_penalty=4.0), 0)]) == [0]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    params = [SamplingParams(), SamplingParams(temperature=0.0), SamplingParams(top_p=0.7), SamplingParams(min_p=0.2)]
    rows = torch.stack([random_logits(i) for i in range(4)])
    together = sample(rows.clone(), [request(p, 10 + i) for i, p in enumerate(params)])
    alone = [sample(rows[i : i + 1].clone(), [request(p, 10 + i)])[0] for i, p in enumerate(params)]
    assert together == alone


def test_steps_and_seeds_draw_differently() -> None:
    draws = {uniform(seed, step) for seed in range(50) for step in range(50)}
    assert len(draws) == 2500
    assert all(0 <= draw < 1 for draw in draws)
    assert abs(np.mean(list(draws)) - 0.5) < 5 * (1 / 12 / 2500) ** 0.5  # five standard errors
    assert uniform(2**63 - 1, 10**6) == uniform(2**63 - 1, 10**6)


def test_a_tiny_temperature_is_greedy_not_nan() -> None:
    logits = random_logits()
    drawn = sample(logits[None].clone(), [request(SamplingParams(temperature=1e-30), 0)])
    assert drawn == [int(logits.argmax())]


def test_tokens_without_probability_are_never_drawn() -> None:
    logits = torch.full((500, VOCABULARY), -torch.inf)
    logits[:, 7] = 0.0
    assert set(sample(logits, [request(SamplingParams(), seed) for seed in range(500)])) == {7}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(value: float) -> None:
    logits = random_logits()[None]
    logits[0, 3] = value
    with pytest.raises(EngineError, match="not finite"):
        sample(logits, [request(SamplingParams(), 0)])

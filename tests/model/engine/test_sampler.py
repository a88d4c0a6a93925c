"""Sampling against Hugging Face's processors, OpenAI's definition, and the distribution it must follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from kernels.sampling import draw_reference
from model.engine import sampler
from model.engine.sampler import Sampled, SampleRequest, sample, uniform
from model.interface import EngineError, SamplingParams

VOCABULARY = 23
PROMPT = (4, 9)
ANSWER = (9, 6, 9, 9, 17)


def request(
    params: SamplingParams,
    seed: int,
    step: int = 0,
    *,
    prompt: Sequence[int] = PROMPT,
    answer: Sequence[int] = ANSWER,
) -> SampleRequest:
    return SampleRequest(params=params, seed=seed, step=step, prompt_token_ids=prompt, answer_token_ids=answer)


def ids(sampled: Sequence[Sampled]) -> list[int]:
    return [one.token_id for one in sampled]


def random_logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2.5


def openai_penalties(logits: torch.Tensor, params: SamplingParams, answer: Sequence[int]) -> torch.Tensor:
    """mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence (platform.openai.com/docs/api-reference)."""
    values = logits.tolist()
    for token in range(len(values)):
        count = list(answer).count(token)
        values[token] -= count * params.frequency_penalty + float(count > 0) * params.presence_penalty
    return torch.tensor(values)


def penalized(
    logits: torch.Tensor, params: SamplingParams, prompt: Sequence[int] = PROMPT, answer: Sequence[int] = ANSWER
) -> torch.Tensor:
    """Hugging Face's bias and repetition penalty, then OpenAI's penalties: [vocab_size] float32."""
    processors = LogitsProcessorList()
    if params.logit_bias:
        processors.append(SequenceBiasLogitsProcessor({(token,): bias for token, bias in params.logit_bias.items()}))
    if params.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty)))
    scores = processors(torch.tensor([[*prompt, *answer]], dtype=torch.int64), logits[None].clone())
    return openai_penalties(scores[0], params, answer)


def expected_probabilities(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(params.temperature)])
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        warpers.append(MinPLogitsWarper(params.min_p))
    scores: torch.Tensor = warpers(torch.tensor([[0]]), penalized(logits, params)[None])
    return scores[0].softmax(-1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.6),
        SamplingParams(top_k=5),
        SamplingParams(top_p=0.8),
        SamplingParams(min_p=0.1),
        SamplingParams(repetition_penalty=1.7),
        SamplingParams(repetition_penalty=0.6),
        SamplingParams(presence_penalty=1.5),
        SamplingParams(frequency_penalty=0.9),
        SamplingParams(presence_penalty=-1.0, frequency_penalty=-0.5),
        SamplingParams(logit_bias={2: 3.5, 9: -2.0, 22: 1.0}),
        SamplingParams(logit_bias=dict.fromkeys(range(3, VOCABULARY), -100.0)),
        SamplingParams(temperature=1.4, top_k=12, top_p=0.9, min_p=0.02, repetition_penalty=1.3),
        SamplingParams(
            temperature=0.8,
            top_k=15,
            top_p=0.95,
            min_p=0.01,
            repetition_penalty=1.2,
            presence_penalty=0.7,
            frequency_penalty=0.4,
            logit_bias={9: 4.0, 17: 2.0, 0: -1.0},
            logprobs=3,
        ),
        SamplingParams(top_p=1e-9),
        SamplingParams(top_k=1),
    ],
    ids=repr,
)
def test_draws_follow_the_distribution(params: SamplingParams) -> None:
    """Chi-square over 20,000 seeded draws at a false-alarm rate of 1e-6 a case, less than 2e-5 for all of them; nothing
    outside the support."""
    logits = random_logits()
    expected = expected_probabilities(logits, params).double().numpy()
    count = 20_000
    batch = [request(params, seed) for seed in range(count)]
    drawn = np.bincount(ids(sample(logits.repeat(count, 1), batch)), minlength=VOCABULARY)
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
    def greedy(logits: torch.Tensor, **params: Any) -> list[int]:
        return ids(sample(logits.clone(), [request(SamplingParams(temperature=0.0, **params), 0, answer=())]))

    logits = torch.tensor([[0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, -1.0]])
    assert greedy(logits) == [4]
    assert greedy(logits, repetition_penalty=2.0) == [1]
    assert greedy(logits, presence_penalty=2.0, frequency_penalty=2.0) == [4]  # the prompt does not count
    assert greedy(logits, logit_bias={8: 3.5}) == [8]
    # negative logits of seen tokens sink further
    low = torch.full((1, 10), -3.0)
    low[0, 9], low[0, 4] = -1.0, -9.0
    assert greedy(low, repetition_penalty=4.0) == [0]


TOKEN = st.integers(0, VOCABULARY - 1)


@st.composite
def sample_requests(draw: st.DrawFn) -> SampleRequest:
    """All features, each off half of the time."""

    def maybe(values: st.SearchStrategy[Any], off: Any) -> Any:
        return draw(values) if draw(st.booleans()) else off

    params = SamplingParams(
        temperature=maybe(st.sampled_from([0.0, 0.3, 2.0, 1e-30, 5e-324, 100.0]), 1.0),
        top_p=maybe(st.floats(0.01, 1), 1.0),
        top_k=maybe(st.integers(0, VOCABULARY + 2), 0),
        min_p=maybe(st.floats(0, 1), 0.0),
        repetition_penalty=maybe(st.floats(0.5, 2) | st.sampled_from([5e-324, 100.0]), 1.0),
        presence_penalty=maybe(st.floats(-2, 2), 0.0),
        frequency_penalty=maybe(st.floats(-2, 2), 0.0),
        logit_bias=maybe(st.dictionaries(TOKEN, st.floats(-100, 100)), {}),
        logprobs=maybe(st.integers(0, 20), None),
    )
    return SampleRequest(
        params=params,
        seed=draw(st.integers(0, 2**63 - 1)),
        step=draw(st.integers(0, 1000)),
        prompt_token_ids=draw(st.lists(TOKEN, max_size=5)),
        answer_token_ids=draw(st.lists(TOKEN, max_size=5)),
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(
    batch=st.lists(sample_requests(), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
    whole=st.booleans(),
    data=st.data(),
)
def test_a_row_does_not_depend_on_its_neighbours(
    batch: list[SampleRequest], seed: int, whole: bool, data: st.DataObject
) -> None:
    """Alone, together, in another order: the same tokens and, to the bit, the same log-probabilities."""
    logits = torch.randn(len(batch), VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 4
    if whole:
        logits = logits.round()  # many ties
    together = sample(logits.clone(), batch)
    assert together == [sample(logits[i : i + 1].clone(), [one])[0] for i, one in enumerate(batch)]
    order = data.draw(st.permutations(range(len(batch))))
    assert sample(logits[order], [batch[i] for i in order]) == [together[i] for i in order]


@settings(deadline=None, max_examples=100)
@given(batch=st.lists(sample_requests(), min_size=1, max_size=6), seed=st.integers(0, 2**31))
def test_so_it_does_not_where_the_device_draws(batch: list[SampleRequest], seed: int) -> None:
    """And what is not drawn, greedy tokens and log-probabilities, is what it is where it does not."""
    logits = torch.randn(len(batch), VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 4
    together = sample(logits.clone(), batch, draw=draw_reference)
    alone = [sample(logits[i : i + 1].clone(), [one], draw=draw_reference)[0] for i, one in enumerate(batch)]
    assert together == alone
    for one, drawn, by_host in zip(batch, together, sample(logits.clone(), batch), strict=True):
        if one.params.temperature == 0:
            assert drawn == by_host
        elif drawn.logprob is not None and by_host.logprob is not None:
            assert drawn.logprob.top == by_host.logprob.top


@settings(deadline=None, max_examples=200)
@given(one=sample_requests(), seed=st.integers(0, 2**31))
def test_penalties_equal_their_definitions(one: SampleRequest, seed: int) -> None:
    """The greedy token has the largest logit of those that Hugging Face's processors and OpenAI's formula give."""
    params = SamplingParams(
        temperature=0.0,
        repetition_penalty=max(0.5, one.params.repetition_penalty),
        presence_penalty=one.params.presence_penalty,
        frequency_penalty=one.params.frequency_penalty,
        logit_bias=one.params.logit_bias,
    )
    logits = random_logits(seed)
    wanted = penalized(logits, params, one.prompt_token_ids, one.answer_token_ids)
    greedy = request(params, 0, prompt=one.prompt_token_ids, answer=one.answer_token_ids)
    [sampled] = sample(logits[None].clone(), [greedy])
    assert wanted[sampled.token_id] >= wanted.max() - 1e-4


@settings(deadline=None, max_examples=200)
@given(batch=st.lists(sample_requests(), min_size=1, max_size=4), seed=st.integers(0, 2**31), whole=st.booleans())
def test_logprobs_are_the_models_own(batch: list[SampleRequest], seed: int, whole: bool) -> None:
    logits = torch.randn(len(batch), VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 4
    if whole:
        logits = logits.round()
    exact = logits.double().log_softmax(-1)
    ranked = logits.sort(dim=-1, descending=True, stable=True).indices.tolist()
    for row, (one, sampled) in enumerate(zip(batch, sample(logits.clone(), batch), strict=True)):
        if one.params.logprobs is None:
            assert sampled.logprob is None
            continue
        found = sampled.logprob
        assert found is not None
        assert found.token_id == sampled.token_id
        assert abs(found.logprob - exact[row, found.token_id].item()) <= 1e-5
        assert [token for token, _ in found.top] == ranked[row][: one.params.logprobs]
        assert all(abs(logprob - exact[row, token].item()) <= 1e-5 for token, logprob in found.top)
        assert dict(found.top).get(found.token_id, found.logprob) == found.logprob  # the identical float


def test_logprobs_of_more_rows_than_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    params = [SamplingParams(logprobs=i % 4) if i % 3 else SamplingParams() for i in range(17)]
    rows = torch.stack([random_logits(i) for i in range(17)])
    batch = [request(p, i) for i, p in enumerate(params)]
    whole = sample(rows.clone(), batch)
    monkeypatch.setattr(sampler, "LOGPROB_ENTRIES", 2 * VOCABULARY)
    assert sample(rows.clone(), batch) == whole


def test_logprobs_over_persimmons_vocabulary() -> None:
    logits = torch.randn(2, 262_144, generator=torch.Generator().manual_seed(0)) * 3
    logits[0, [5, 262_143]] = 40.0
    batch = [
        request(SamplingParams(temperature=0.0, logprobs=20, logit_bias={77: 100.0}), 0),
        request(SamplingParams(logprobs=0), 1),
    ]
    first, second = sample(logits.clone(), batch)
    exact = logits.double().log_softmax(-1)
    assert first.token_id == 77
    assert first.logprob is not None
    assert second.logprob is not None
    assert abs(first.logprob.logprob - exact[0, 77].item()) <= 4e-6  # nearer than torch's float32 log_softmax
    assert [token for token, _ in first.logprob.top[:2]] == [5, 262_143]
    assert len(first.logprob.top) == 20
    assert second.logprob.top == ()
    assert abs(second.logprob.logprob - exact[1, second.token_id].item()) <= 4e-6


def test_the_greedy_token_is_the_first_where_two_logits_round_to_one_logprob() -> None:
    logits = torch.full((1, VOCABULARY), -30.0)
    logits[0, 3], logits[0, 5] = 0.1, 0.1 + 1e-8
    logits[0, 8] = logits[0, 9] = 20.0
    params = SamplingParams(temperature=0.0, logprobs=4, logit_bias={8: -90.0, 9: -90.0})
    [sampled] = sample(logits, [request(params, 0)])
    assert sampled.token_id == 5
    assert sampled.logprob is not None
    assert [token for token, _ in sampled.logprob.top] == [8, 9, 5, 3]
    assert sampled.logprob.top[2][1] == sampled.logprob.top[3][1] == sampled.logprob.logprob


def test_rows_without_penalties_do_not_read_their_tokens() -> None:
    class Untouchable(Sequence[int]):
        def __getitem__(self, index: Any) -> Any:
            raise AssertionError("read")

        def __len__(self) -> int:
            raise AssertionError("read")

    one = request(SamplingParams(top_p=0.9, logprobs=2), 0, prompt=Untouchable(), answer=Untouchable())
    assert len(sample(random_logits()[None], [one])) == 1


def test_no_rows() -> None:
    assert sample(torch.empty(0, VOCABULARY), []) == []


def test_the_same_seed_and_step_draw_the_same() -> None:
    """Several places of one answer in one batch, as speculative decoding asks for them."""
    rows = torch.stack([random_logits(i) for i in range(6)])
    answer = [1, 2, 3, 4, 5]
    params = SamplingParams(frequency_penalty=1.0, repetition_penalty=1.1, logprobs=1)
    batch = [request(params, 3, step, answer=answer[:step]) for step in range(6)]
    one_by_one = [sample(rows[i : i + 1].clone(), batch[i : i + 1])[0] for i in range(6)]
    assert sample(rows.clone(), batch) == one_by_one


def test_steps_and_seeds_draw_differently() -> None:
    draws = {uniform(seed, step) for seed in range(50) for step in range(50)}
    assert len(draws) == 2500
    assert all(0 <= draw < 1 for draw in draws)
    assert abs(np.mean(list(draws)) - 0.5) < 5 * (1 / 12 / 2500) ** 0.5  # five standard errors
    assert uniform(2**63 - 1, 10**6) == uniform(2**63 - 1, 10**6)


@pytest.mark.parametrize("temperature", [1e-30, 5e-324])
def test_a_tiny_temperature_is_greedy_not_nan(temperature: float) -> None:
    logits = random_logits()
    drawn = ids(sample(logits[None].clone(), [request(SamplingParams(temperature=temperature), 0)]))
    assert drawn == [int(logits.argmax())]


@pytest.mark.parametrize("penalty", [5e-324, 1e-40, 100.0])
def test_finite_logits_stay_finite(penalty: float) -> None:
    logits = torch.tensor([[0.0, 3e38, -3e38, 1.0, -torch.inf, 2.0]])
    params = SamplingParams(repetition_penalty=penalty, logit_bias={4: 100.0, 0: -100.0}, logprobs=6)
    [drawn] = sample(logits, [request(params, 0, prompt=range(6), answer=())])
    assert drawn.token_id in (1, 3, 5)
    assert drawn.logprob is not None
    assert not any(math.isnan(logprob) for _, logprob in drawn.logprob.top)


def test_tokens_without_probability_are_never_drawn() -> None:
    logits = torch.full((500, VOCABULARY), -torch.inf)
    logits[:, 7] = 0.0
    assert set(ids(sample(logits, [request(SamplingParams(), seed) for seed in range(500)]))) == {7}


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(repetition_penalty=2.0, logit_bias={9: 1.0})])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("token", [3, 9])
def test_logits_that_are_not_finite_are_an_error(value: float, token: int, params: SamplingParams) -> None:
    logits = random_logits()[None]
    logits[0, token] = value
    with pytest.raises(EngineError, match="not finite"):
        sample(logits, [request(params, 0)])

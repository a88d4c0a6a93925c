"""Log-probabilities of answers, prompts and scores against Hugging Face's, in all families; and logit bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from model.engine.engine import LocalEngine
from model.interface import InvalidRequest, SamplingParams, ScoreRequest, TokenLogprob
from model.parity.hugging_face import HuggingFace

TOLERANCE = 1e-4

Open = Callable[..., LocalEngine]
Tokens = Callable[..., list[int]]


def assert_equal_logprobs(found: Sequence[TokenLogprob], logprobs: torch.Tensor, *, num_top: int) -> None:
    """`found` are the tokens that follow each place of `logprobs`, [num_places, vocab_size]."""
    assert len(found) == len(logprobs)
    for one, row in zip(found, logprobs, strict=True):
        assert one.logprob == pytest.approx(float(row[one.token_id]), abs=TOLERANCE)
        top_ids, top_logprobs = [token for token, _ in one.top], [logprob for _, logprob in one.top]
        assert len(set(top_ids)) == num_top
        assert top_logprobs == sorted(top_logprobs, reverse=True)
        assert top_logprobs == pytest.approx(row.topk(num_top).values.tolist(), abs=TOLERANCE)
        assert top_logprobs == pytest.approx(row[top_ids].tolist(), abs=TOLERANCE)
        assert dict(one.top).get(one.token_id, one.logprob) == one.logprob  # the identical float


def num_to_generate(caches_prefixes: bool) -> int:
    """Tokens to generate: under dynamic rope, Hugging Face's keys in one pass are not those of its generation."""
    return 12 if caches_prefixes else 1


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": 0.0},
        {"temperature": 1.3, "top_p": 0.9},
        {"temperature": 0.7, "repetition_penalty": 1.5, "presence_penalty": 1.0, "logit_bias": {70: 9.0, 71: -100.0}},
    ],
)
def test_logprobs_are_the_models_own(
    open_small: Open, hugging_face: HuggingFace, tokens: Tokens, caches_prefixes: bool, setting: dict[str, Any]
) -> None:
    """Before temperature, bias and penalties, for the answer as for the prompt."""
    prompt = tokens(43)
    params = SamplingParams(
        max_tokens=num_to_generate(caches_prefixes),
        ignore_eos=True,
        seed=5,
        logprobs=4,
        prompt_logprobs=2,
        **setting,
    )
    (completion,) = open_small(num_draft_tokens=2, max_num_batched_tokens=32).generate([prompt], params)
    text = [*prompt, *completion.token_ids]
    logprobs = hugging_face.logits(text[:-1]).log_softmax(-1)
    assert [one.token_id for one in completion.prompt_logprobs] == prompt[1:]
    assert [one.token_id for one in completion.logprobs] == list(completion.token_ids)
    assert_equal_logprobs(completion.prompt_logprobs, logprobs[: len(prompt) - 1], num_top=2)
    assert_equal_logprobs(completion.logprobs, logprobs[len(prompt) - 1 :], num_top=4)


def test_greedy_tokens_are_the_first_of_their_top(plain: LocalEngine, tokens: Tokens) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=10, ignore_eos=True, logprobs=20)
    (completion,) = plain.generate([tokens(9)], params)
    assert [one.top[0] for one in completion.logprobs] == [(one.token_id, one.logprob) for one in completion.logprobs]


def test_only_what_was_asked_for_comes(open_small: Open, tokens: Tokens) -> None:
    """Neighbours in a batch want different things."""
    wanted = [(None, None), (0, None), (None, 0), (3, 1), (20, 20)]
    params = [
        SamplingParams(max_tokens=3, ignore_eos=True, seed=0, logprobs=own, prompt_logprobs=prompts)
        for own, prompts in wanted
    ]
    completions = open_small().generate([tokens(10)] * len(params), params)
    assert len({completion.token_ids for completion in completions}) == 1
    for (own, prompts), completion in zip(wanted, completions, strict=True):
        assert [len(one.top) for one in completion.logprobs] == ([] if own is None else [own] * 3)
        assert [len(one.top) for one in completion.prompt_logprobs] == ([] if prompts is None else [prompts] * 9)


@pytest.mark.parametrize("num_draft_tokens", [0, 3])
def test_chunks_carry_the_logprobs_of_their_tokens(open_small: Open, tokens: Tokens, num_draft_tokens: int) -> None:
    params = SamplingParams(max_tokens=14, seed=2, logprobs=2, prompt_logprobs=0, ignore_eos=True, stop=("e", "th"))
    chunks = list(open_small(num_draft_tokens=num_draft_tokens).stream(tokens(6) * 3, params))
    completion = chunks[-1].completion
    assert completion is not None
    for chunk in chunks:
        assert [one.token_id for one in chunk.logprobs] == list(chunk.token_ids)
    assert tuple(one for chunk in chunks for one in chunk.logprobs) == completion.logprobs
    assert [one.token_id for one in completion.logprobs] == list(completion.token_ids)
    assert len(completion.prompt_logprobs) == 17


def test_prompts_are_echoed_with_one_generated_token(
    open_small: Open, hugging_face: HuggingFace, tokens: Tokens
) -> None:
    """An API's `echo` for lm-eval: prompt_logprobs beside one token. From the cache or not, with a known prefix or not,
    every place is there, and equals a score."""
    prompt = tokens(26)
    params = SamplingParams(temperature=0.0, max_tokens=1, logprobs=1, prompt_logprobs=1)
    engine = open_small(max_num_batched_tokens=33)
    engine.generate([prompt], SamplingParams(max_tokens=1))
    first, second, short = engine.generate([prompt, prompt, prompt[:1]], params)
    request = ScoreRequest(context_token_ids=(prompt[0],), continuation_token_ids=tuple(prompt[1:]), top_logprobs=1)
    (score,) = engine.score([request])
    expected = hugging_face.logits(prompt).log_softmax(-1)
    for completion in (first, second):
        assert_equal_logprobs([*completion.prompt_logprobs, *completion.logprobs], expected, num_top=1)
        for ours, theirs, top in zip(completion.prompt_logprobs, score.logprobs, score.top, strict=True):
            assert ours.logprob == pytest.approx(theirs, abs=TOLERANCE)
            assert [token for token, _ in ours.top] == [token for token, _ in top]
    assert (short.prompt_logprobs, len(short.logprobs)) == ((), 1)  # nothing predicts the first token


def test_scores_equal_hugging_face(open_small: Open, hugging_face: HuggingFace, tokens: Tokens) -> None:
    text = tokens(45)
    engine = open_small()
    logprobs = hugging_face.logits(text[:-1]).log_softmax(-1)
    for split in (1, 8, 24, 44):
        continuation = tuple(text[split:])
        request = ScoreRequest(context_token_ids=tuple(text[:split]), continuation_token_ids=continuation)
        (plain_score,) = engine.score([request])
        assert (plain_score.token_ids, plain_score.top) == (continuation, ())
        request = ScoreRequest(
            context_token_ids=request.context_token_ids, continuation_token_ids=continuation, top_logprobs=5
        )
        (score,) = engine.score([request])
        rows = logprobs[split - 1 :]
        found = [
            TokenLogprob(token_id=token, logprob=logprob, top=top)
            for token, logprob, top in zip(score.token_ids, score.logprobs, score.top, strict=True)
        ]
        assert_equal_logprobs(found, rows, num_top=5)
        assert list(score.is_greedy) == (rows.argmax(-1) == torch.tensor(continuation)).tolist()
        assert score.is_greedy == plain_score.is_greedy
        assert score.loglikelihood == pytest.approx(plain_score.loglikelihood, abs=TOLERANCE)


def test_more_top_logprobs_than_the_interface_allows_are_refused() -> None:
    for make in (
        lambda: SamplingParams(logprobs=21),
        lambda: SamplingParams(prompt_logprobs=-1),
        lambda: ScoreRequest(context_token_ids=(1,), continuation_token_ids=(2,), top_logprobs=21),
    ):
        with pytest.raises(InvalidRequest, match="must be a whole number from 0 to 20"):
            make()


def test_bias_forbids_and_forces(open_small: Open, tokens: Tokens) -> None:
    engine = open_small(num_draft_tokens=2)
    prompt = tokens(12)
    greedy = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
    (own,) = engine.generate([prompt], greedy)
    forbidden = dict.fromkeys(own.token_ids, -100.0)
    for temperature in (0.0, 1.0):
        rest = {"temperature": temperature, "max_tokens": 8, "ignore_eos": True, "seed": 1}
        without, forced, two = engine.generate(
            [prompt] * 3,
            [
                SamplingParams(logit_bias=forbidden, **rest),
                SamplingParams(logit_bias={77: 100.0}, **rest),
                SamplingParams(logit_bias={77: 100.0, 78: 100}, **rest),
            ],
        )
        assert not set(without.token_ids) & set(own.token_ids)
        assert forced.token_ids == (77,) * 8
        assert set(two.token_ids) <= {77, 78}


def test_ids_outside_the_vocabulary_are_refused(plain: LocalEngine, tokens: Tokens) -> None:
    size = plain.info.vocab_size
    sentence = rf"^token id {size} is not allowed: this model's ids are 0 to {size - 1}$"
    with pytest.raises(InvalidRequest, match=sentence):
        plain.generate([tokens(4)], SamplingParams(logit_bias={5: 1.0, size: -100.0}))
    with pytest.raises(InvalidRequest, match=sentence):
        plain.stream([3, size], SamplingParams())
    with pytest.raises(InvalidRequest, match=sentence):
        plain.hidden_states([[3], [size]])
    for context, continuation in (((size,), (3,)), ((3,), (4, size))):
        with pytest.raises(InvalidRequest, match=sentence):
            plain.score([ScoreRequest(context_token_ids=context, continuation_token_ids=continuation)])
    assert plain.stats().num_waiting == 0

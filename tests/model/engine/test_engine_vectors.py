"""Vectors in place of embeddings, and hidden states, against Hugging Face's, in all families."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from model.engine.engine import LocalEngine
from model.interface import EmbeddedPrompt, EngineError, InvalidRequest, SamplingParams, TokenLogprob

BLOCK_SIZE = 4
HIDDEN_SIZE = 48
TOLERANCE = 1e-4
PLACEHOLDER = 5
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, logprobs=1, prompt_logprobs=1)

Open = Callable[..., LocalEngine]
Tokens = Callable[..., list[int]]
Vectors = NDArray[np.float32]


class Reference:
    """The checkpoint in transformers, given embeddings."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def embeddings(self, token_ids: list[int]) -> Vectors:
        """[num_tokens, hidden_size]."""
        table: Vectors = self.model.get_input_embeddings().weight.detach().numpy()
        return table[token_ids]

    def embed(self, prompt: EmbeddedPrompt) -> torch.Tensor:
        """[1, num_tokens, hidden_size]."""
        embedded = self.embeddings(list(prompt.token_ids)).copy()
        embedded[list(prompt.positions)] = prompt.vectors
        return torch.from_numpy(embedded)[None]

    @torch.inference_mode()
    def logprobs(self, embedded: torch.Tensor) -> torch.Tensor:
        """[num_tokens, vocab_size]."""
        logprobs: torch.Tensor = self.model(inputs_embeds=embedded).logits[0].log_softmax(-1)
        return logprobs

    @torch.inference_mode()
    def greedy(self, embedded: torch.Tensor, count: int) -> list[int]:
        answer = self.model.generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.int64),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        generated: list[int] = answer[0].tolist()
        return generated

    @torch.inference_mode()
    def hidden_state(self, **inputs: torch.Tensor) -> Vectors:
        """After the final norm, at the last token: [hidden_size]."""
        state: Vectors = self.model.base_model(**inputs).last_hidden_state[0, -1].numpy()
        return state


@pytest.fixture
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


def random_vectors(count: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).normal(scale=0.3, size=(count, HIDDEN_SIZE)).astype(np.float32)


def embedded_prompt(token_ids: list[int], positions: list[int], seed: int) -> EmbeddedPrompt:
    return EmbeddedPrompt(
        token_ids=tuple(PLACEHOLDER if place in positions else token for place, token in enumerate(token_ids)),
        positions=tuple(positions),
        vectors=random_vectors(len(positions), seed),
    )


def floats(logprobs: tuple[TokenLogprob, ...]) -> list[float]:
    return [one.logprob for one in logprobs]


@pytest.mark.parametrize("positions", [[0], [19], [3, 4], list(range(20))])
def test_the_embeddings_of_tokens_are_as_good_as_the_tokens(
    plain: LocalEngine, open_small: Open, reference: Reference, tokens: Tokens, positions: list[int]
) -> None:
    text = tokens(20)
    prompt = EmbeddedPrompt(
        token_ids=tuple(PLACEHOLDER if place in positions else token for place, token in enumerate(text)),
        positions=tuple(positions),
        vectors=reference.embeddings([text[place] for place in positions]),
    )
    params = SamplingParams(temperature=1.1, max_tokens=12, ignore_eos=True, seed=4, logprobs=0)
    (expected,) = plain.generate([text], params)
    # Beside other requests, in chunks that cut the vectors, preempted.
    engine = open_small(max_num_requests=3, max_num_batched_tokens=6, kv_cache_tokens=40)
    others = [text, prompt, tokens(9), prompt]
    completions = engine.generate(others, params)
    assert engine.stats().num_preemptions > 0
    for completion in (*plain.generate([prompt], params), completions[1], completions[3]):
        assert completion.token_ids == expected.token_ids
        assert floats(completion.logprobs) == pytest.approx(floats(expected.logprobs), abs=TOLERANCE)
    assert completions[0].token_ids == expected.token_ids


@pytest.mark.parametrize("positions", [[0, 1, 2], list(range(4, 40)), [5, 6, 7, 30, 44]])
def test_random_vectors_equal_hugging_face(
    open_small: Open, reference: Reference, tokens: Tokens, positions: list[int]
) -> None:
    prompt = embedded_prompt(tokens(45), positions, seed=1)
    embedded = reference.embed(prompt)
    logprobs, greedy = reference.logprobs(embedded), reference.greedy(embedded, 12)
    for options in ({}, {"max_num_requests": 2, "max_num_batched_tokens": 7, "num_draft_tokens": 2}):
        (completion,) = open_small(**options).generate([prompt], GREEDY)
        following = torch.tensor([*prompt.token_ids[1:], completion.token_ids[0]])
        expected = logprobs.gather(-1, following[:, None])[:, 0]
        found = [*floats(completion.prompt_logprobs), completion.logprobs[0].logprob]
        assert found == pytest.approx(expected.tolist(), abs=TOLERANCE)
        top = [one.top[0][0] for one in completion.prompt_logprobs]
        assert top == logprobs[:-1].argmax(-1).tolist()
        assert completion.num_prompt_tokens == 45
        assert list(completion.token_ids) == greedy


@pytest.mark.parametrize("first", [10, 11])  # with the vector, a block is full or is not
def test_vectors_do_not_get_into_the_prefix_cache(
    plain: LocalEngine, open_small: Open, tokens: Tokens, caches_prefixes: bool, first: int
) -> None:
    """The same ids with other vectors, and without any, in any order; only what stands before the first vector is
    shared, also with a prompt of tokens."""
    text = tokens(30)
    prompts: list[Any] = [embedded_prompt(text, [first, 17, 18], seed) for seed in range(3)]
    prompts += [list(prompts[0].token_ids), text]
    params = SamplingParams(temperature=0.8, max_tokens=5, ignore_eos=True, seed=0, logprobs=0)
    expected = plain.generate(prompts, params)
    assert len({completion.token_ids for completion in expected}) == len(prompts)
    for order in ([0, 1, 3, 4], [3, 4, 2, 2, 0]):
        engine = open_small(num_draft_tokens=2)
        for turn, index in enumerate(order):
            (completion,) = engine.generate([prompts[index]], params)
            assert completion.token_ids == expected[index].token_ids
            assert floats(completion.logprobs) == pytest.approx(floats(expected[index].logprobs), abs=TOLERANCE)
            if not caches_prefixes:
                assert completion.num_cached_tokens == 0
            elif index < 3:
                assert completion.num_cached_tokens == (first // BLOCK_SIZE * BLOCK_SIZE if turn else 0)
        together = engine.generate([prompts[index] for index in order], params)
        assert [one.token_ids for one in together] == [expected[index].token_ids for index in order]
    # A chat's next turn is another prompt with the same vectors, which are not found again.
    completions = engine.generate(prompts[:3], params)
    longer = [
        EmbeddedPrompt(
            token_ids=(*prompt.token_ids, *completion.token_ids, 7), positions=prompt.positions, vectors=prompt.vectors
        )
        for prompt, completion in zip(prompts[:3], completions, strict=True)
    ]
    again = [completion.token_ids for completion in engine.generate(longer, params)]
    assert again == [completion.token_ids for completion in plain.generate(longer, params)]


@pytest.mark.parametrize("budget", [2048, 8])
def test_a_prompt_that_overflows_harms_no_other(
    plain: LocalEngine, open_small: Open, tokens: Tokens, budget: int
) -> None:
    """Its blocks, with keys and values that are not finite, are the first that others get, and in a batch shorter
    sequences read past their own tokens. (RMSNorm makes zeros of such numbers, so that a Llama answers.)"""
    vectors = np.random.default_rng(0).uniform(-3e38, 3e38, size=(47, HIDDEN_SIZE)).astype(np.float32)
    bad = EmbeddedPrompt(token_ids=(PLACEHOLDER,) * 60, positions=tuple(range(3, 50)), vectors=vectors)
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)  # no output of the first chunk is asked for
    prompts = [tokens(5), tokens(30), tokens(17)]
    expected = [completion.token_ids for completion in plain.generate(prompts, params)]
    engine = open_small(max_num_requests=3, max_num_batched_tokens=budget, kv_cache_tokens=140)
    for _ in range(2):
        with contextlib.suppress(EngineError):
            engine.generate([bad], params)
        assert [completion.token_ids for completion in engine.generate(prompts, params)] == expected


def test_streams_of_vectors(plain: LocalEngine, open_small: Open, tokens: Tokens) -> None:
    prompt = embedded_prompt(tokens(13), [2, 3], seed=2)
    params = [SamplingParams(temperature=1.0, max_tokens=8, ignore_eos=True, seed=seed) for seed in range(3)]
    expected = [completion.token_ids for completion in plain.generate([prompt] * 3, params)]
    streams = open_small().streams(prompt, params)
    assert [tuple(token for chunk in stream for token in chunk.token_ids) for stream in streams] == expected


def test_the_callers_vectors_may_change_afterwards(plain: LocalEngine, tokens: Tokens) -> None:
    prompt = embedded_prompt(tokens(13), [2, 3], seed=2)
    (expected,) = plain.generate([prompt], GREEDY)
    stream = plain.stream(prompt, GREEDY)
    prompt.vectors[:] = 0
    assert tuple(token for chunk in stream for token in chunk.token_ids) == expected.token_ids


@pytest.mark.parametrize(
    ("positions", "vectors", "sentence"),
    [
        (
            (),
            random_vectors(0, 0),
            r"^positions=\(\) is not allowed: it must be rising places in a prompt of 4 ",
        ),
        ((2, 1), random_vectors(2, 0), r"^positions=\(2, 1\) is not allowed: "),
        ((1, 1), random_vectors(2, 0), r"^positions=\(1, 1\) is not allowed: "),
        ((1, 4), random_vectors(2, 0), r"^positions=\(1, 4\) is not allowed: "),
        ((-1, 2), random_vectors(2, 0), r"^positions=\(-1, 2\) is not allowed: "),
        ((1, 2), random_vectors(3, 0), r"^vectors of shape \(3, 48\) came with 2 positions: give one row each$"),
        ((1, 2), random_vectors(2, 0)[0], r"^vectors of shape \(48,\) came with 2 positions: give one row each$"),
        *(
            ((1, 2), np.full((2, HIDDEN_SIZE), value), r"^vectors holds numbers that are not finite in float32: give")
            for value in (np.nan, np.inf, -np.inf, 3.5e38)
        ),
    ],
)
def test_wrong_vectors_are_refused(positions: tuple[int, ...], vectors: Vectors, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        EmbeddedPrompt(token_ids=(3, 4, 5, 6), positions=positions, vectors=vectors)


def test_vectors_of_another_size_are_refused(plain: LocalEngine) -> None:
    prompt = EmbeddedPrompt(token_ids=(3, 4, 5), positions=(1,), vectors=random_vectors(1, 0)[:, :47])
    sentence = r"^vectors of shape \(1, 47\) do not fit: this model's have 48 numbers$"
    for ask in (
        lambda: plain.generate([prompt], GREEDY),
        lambda: plain.stream(prompt, GREEDY),
        lambda: plain.hidden_states([prompt]),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            ask()


def test_hidden_states_equal_hugging_face(
    plain: LocalEngine, open_small: Open, reference: Reference, tokens: Tokens
) -> None:
    prompts: list[Any] = [tokens(length) for length in (1, 4, 5, 8, 17, 45)]
    prompts.append(embedded_prompt(tokens(47), [0, 1, 9, 30], seed=3))
    expected = [reference.hidden_state(input_ids=torch.tensor([prompt])) for prompt in prompts[:-1]]
    expected.append(reference.hidden_state(inputs_embeds=reference.embed(prompts[-1])))
    batched = open_small(max_num_requests=4, max_num_batched_tokens=10, kv_cache_tokens=60)
    for engine in (plain, batched, batched):  # the last time from the cache
        for found, state in zip(engine.hidden_states(prompts), expected, strict=True):
            assert (found.shape, found.dtype) == ((HIDDEN_SIZE,), np.float32)
            np.testing.assert_allclose(found, state, atol=TOLERANCE)
    for prompt, state in zip(prompts, expected, strict=True):
        np.testing.assert_allclose(batched.hidden_states([prompt])[0], state, atol=TOLERANCE)


@pytest.mark.asyncio
async def test_the_async_twin_of_hidden_states(open_small: Open, tokens: Tokens) -> None:
    engine = open_small(max_num_requests=1)
    prompts = [tokens(length) for length in (3, 30)]
    twin = await engine.ahidden_states(prompts, priority="interactive")
    for one, other in zip(twin, engine.hidden_states(prompts), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)
    assert await engine.ahidden_states([]) == engine.hidden_states([]) == []


def test_hidden_states_go_up_to_the_context_length(plain: LocalEngine, tokens: Tokens) -> None:
    length = plain.info.context_length
    assert plain.hidden_states([tokens(length)])[0].shape == (HIDDEN_SIZE,)
    with pytest.raises(InvalidRequest, match=f"has {length + 1} tokens but the context length allows at most {length}"):
        plain.hidden_states([tokens(length + 1)])
    with pytest.raises(InvalidRequest, match="prompts is one string"):
        plain.hidden_states("text")

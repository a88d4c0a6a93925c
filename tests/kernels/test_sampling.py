"""Drawing without a host: the generator, what may be drawn, and how often it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from kernels.sampling import DrawParams, draw_reference, exponential_noise, philox, surviving_reference

VOCABULARY = 23
CASES = [
    {},
    {"temperature": 0.6},
    {"top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"temperature": 1.4, "top_k": 12, "top_p": 0.9, "min_p": 0.02},
    {"top_p": 1e-9},
    {"top_k": 1},
]


def params(num_rows: int, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0):  # type: ignore[no-untyped-def]
    """Rows alike but for their seeds."""
    ones, rows = torch.ones(num_rows), torch.arange(num_rows)
    return DrawParams(temperature * ones, torch.full_like(rows, top_k), top_p * ones, min_p * ones, rows, rows % 7)


def random_logits(seed: int = 0, vocab_size: int = VOCABULARY) -> Tensor:
    return torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed)) * 2.5


def hugging_faces(logits: Tensor, case: dict[str, float]) -> Tensor:
    """Probabilities [vocab_size]."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(case.get("temperature", 1.0)))])
    if "top_k" in case:
        warpers.append(TopKLogitsWarper(int(case["top_k"])))
    if "top_p" in case:
        warpers.append(TopPLogitsWarper(case["top_p"]))
    if "min_p" in case:
        warpers.append(MinPLogitsWarper(case["min_p"]))
    scores: Tensor = warpers(torch.tensor([[0]]), logits[None])
    return scores[0].softmax(-1)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (0xFFFFFFFF, 0xFFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_known_answers(counter: int, key: int, expected: str) -> None:
    """Random123's tests/kat_vectors, philox4x32 with 10 rounds."""
    word, key_word = torch.tensor(counter), torch.tensor(key)
    found = philox((word, word, word, word), (key_word, key_word))
    assert " ".join(f"{int(one):08x}" for one in found) == expected


def test_noise_is_exponential() -> None:
    """Kolmogorov-Smirnov over 10^6 numbers at a false-alarm rate of 1e-6: 2 exp(-2 d^2 n) = 1e-6."""
    noise = exponential_noise(torch.arange(10), torch.arange(10), 100_000).flatten().double().sort().values
    count = len(noise)
    places = torch.arange(1, count + 1) / count
    assert (places - (1 - (-noise).exp())).abs().max() <= (np.log(2e6) / 2 / count) ** 0.5
    assert noise.min() > 0


def test_noise_differs_with_seed_and_step() -> None:
    seeds, steps = torch.tensor([0, 0, 1, 1 << 32, 0]), torch.tensor([0, 1, 0, 0, 1 << 32])
    noise = exponential_noise(seeds, steps, 3000)
    for one in range(5):
        for other in range(one):
            assert not (noise[one] == noise[other]).any()
    assert torch.equal(exponential_noise(seeds[3:4], steps[3:4], 2000)[0], noise[3, :2000])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_what_may_be_drawn_is_hugging_faces(case: dict[str, float], seed: int) -> None:
    logits = random_logits(seed)
    kept = surviving_reference(logits[None], params(1, **case))[0]  # type: ignore[arg-type]
    assert torch.equal(kept, hugging_faces(logits, case) > 0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_draws_follow_the_distribution(case: dict[str, float]) -> None:
    """Chi-square over 20,000 seeded draws at a false-alarm rate of 1e-6 a case, less than 1e-5 for all of them."""
    logits, count = random_logits(), 20_000
    expected = hugging_faces(logits, case).double().numpy()
    drawn = draw_reference(logits.expand(count, -1), params(count, **case))  # type: ignore[arg-type]
    counts = np.bincount(drawn.numpy(), minlength=VOCABULARY)
    assert not counts[expected == 0].any()
    likely = expected * count >= 5
    observed = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum()) * count
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    # Wilson-Hilferty: the chi-square quantile at 1 - 1e-6 (normal quantile 4.7534)
    freedom = len(wanted) - 1
    bound = freedom * (1 - 2 / (9 * freedom) + 4.7534 * (2 / (9 * freedom)) ** 0.5) ** 3 if freedom else 1e-9
    assert statistic <= bound


def test_greedy_takes_the_first_of_the_largest() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0, 2.0], [5.0, 2.0, -torch.inf, 5.0]])
    assert draw_reference(logits, params(2, temperature=0.0)).tolist() == [1, 0]

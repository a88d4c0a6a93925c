"""Which scores are suspect."""

from __future__ import annotations

import pytest

from evals.statistics import Proportion, at_chance, below_chance, is_constant, score_warnings


@pytest.mark.parametrize(
    ("count", "n", "at", "below"),
    [(50, 200, True, False), (130, 200, False, False), (20, 200, False, True), (0, 0, False, False)],
)
def test_chance(count: int, n: int, at: bool, below: bool) -> None:
    assert at_chance(count, n, 0.25) is at
    assert below_chance(count, n, 0.25) is below


def test_constant_answers() -> None:
    assert is_constant(1.0, 2)
    assert not is_constant(1.0, 1)
    assert not is_constant(0.99, 100)
    assert not is_constant(None, 100)


def test_in_words() -> None:
    assert score_warnings(correct=130, n=200, chance=0.25, common_share=0.3) == ()
    assert score_warnings(correct=50, n=200, chance=0.25, common_share=1, common_answer="B", metric="acc") == (
        "every answer is B",
        "acc is at chance",
    )
    assert score_warnings(correct=1, n=200, chance=0.25, common_share=1, common_answer="") == (
        "every answer is unreadable",
        "score is below chance",
    )
    assert score_warnings(correct=0, n=0, chance=0.25) == ()
    assert score_warnings(correct=5, n=9) == ()


def test_a_clustered_interval_goes_before_wilsons() -> None:
    wide = Proportion(0.65, 0.2, 1.0, 200)
    assert score_warnings(correct=130, n=200, chance=0.25, score=wide) == ("score is at chance",)

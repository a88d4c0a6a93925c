"""The unbiased pass@k."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.statistics import pass_at_k


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 2, 3), (6, 1, 2), (4, 4, 1), (7, 0, 3), (5, 3, 5), (1, 1, 1)])
def test_by_enumeration(n: int, correct: int, k: int) -> None:
    draws = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_agrees_with_the_papers_product(n: int, data: st.DataObject) -> None:
    """Chen et al. 2021, figure 3: 1 - prod(1 - k / i) for i from n - c + 1 to n."""
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    product = 1.0 if n - correct < k else 1 - math.prod(1 - k / i for i in range(n - correct + 1, n + 1))
    assert pass_at_k(n, correct, k) == pytest.approx(product, abs=1e-9)
    assert pass_at_k(n, correct, 1) == correct / n


def test_too_few_samples_are_undefined() -> None:
    assert math.isnan(pass_at_k(0, 0, 1))
    assert math.isnan(pass_at_k(5, 5, 10))


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 2, 0), (5, 6, 1), (5, -1, 1), (-1, 0, 1)])
def test_refuses_what_has_no_meaning(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        pass_at_k(n, correct, k)

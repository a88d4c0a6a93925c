"""Paired differences: McNemar by enumeration, the interval's coverage, and symmetry."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from evals.statistics import adjusted_wald, clustered, mcnemar_exact, paired_difference

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (1, 7), (5, 5), (0, 6), (9, 3)])
def test_mcnemar_by_enumeration(only_a: int, only_b: int) -> None:
    """All ways the discordant items could have fallen; those at least as lopsided count."""
    total = only_a + only_b
    lopsided = [abs(2 * sum(way) - total) >= abs(only_a - only_b) for way in itertools.product((0, 1), repeat=total)]
    assert mcnemar_exact(only_a, only_b) == pytest.approx(sum(lopsided) / 2**total)


def test_mcnemar_as_published() -> None:
    """1 and 7 of 21 pairs: p = 0.070 in Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91."""
    assert round(mcnemar_exact(1, 7), 3) == 0.070
    assert mcnemar_exact(7, 15) == pytest.approx(0.13380050659179688)  # statsmodels 0.15.0


def test_interval_by_hand() -> None:
    """1 and 7 of 21: shares 2/23 and 8/23, variance (10/23 - (6/23)**2) / 23."""
    half = 1.959963985 * math.sqrt((10 / 23 - (6 / 23) ** 2) / 23)
    assert adjusted_wald(1, 7, 21) == pytest.approx((-6 / 23 - half, -6 / 23 + half))


@pytest.mark.parametrize("n", [10, 30])
@pytest.mark.parametrize(("share_a", "share_b"), [(0.1, 0.1), (0.2, 0.05), (0.3, 0.1), (0.4, 0.4), (0.02, 0.02)])
def test_interval_covers_the_truth(n: int, share_a: float, share_b: float) -> None:
    """Over every outcome there is, weighted by its probability."""
    shares = (share_a, share_b, 1 - share_a - share_b)
    covered = 0.0
    for only_a in range(n + 1):
        for only_b in range(n + 1 - only_a):
            low, high = adjusted_wald(only_a, only_b, n)
            if low <= share_a - share_b <= high:
                covered += float(multinomial.pmf((only_a, only_b, n - only_a - only_b), n, shares))
    assert covered >= 0.94


def test_example() -> None:
    a = [True] * 12 + [False] * 8
    b = [True] * 9 + [False] * 9 + [True] * 2
    paired = paired_difference(a, b)
    assert (paired.n, paired.only_a, paired.only_b) == (20, 3, 2)
    assert paired.difference == pytest.approx(0.05)
    assert paired.discordant_share == 0.25
    assert paired.p_value == 1.0
    assert (paired.low, paired.high) == adjusted_wald(3, 2, 20)
    # The standard error of the mean of 3 ones, 2 minus ones and 15 zeros.
    assert paired.stderr == pytest.approx(math.sqrt((5 - 20 * 0.05**2) / 19 / 20))


@settings(deadline=None)
@given(PAIRS)
def test_exchanging_the_models_changes_the_sign(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
    ours, theirs = paired_difference(a, b), paired_difference(b, a)
    assert (ours.n, ours.only_a, ours.only_b) == (theirs.n, theirs.only_b, theirs.only_a)
    for one, other in (
        (ours.difference, -theirs.difference),
        (ours.low, -theirs.high),
        (ours.stderr, theirs.stderr),
        (ours.p_value, theirs.p_value),
    ):
        assert one == pytest.approx(other, nan_ok=True)
    if pairs:
        assert -1 <= ours.low <= ours.difference <= ours.high <= 1


def test_clusters_widen_the_interval() -> None:
    a, b = [True] * 12 + [False] * 28, [False] * 12 + [True] * 8 + [False] * 20
    clusters = [item // 4 for item in range(40)]
    paired = paired_difference(a, b, clusters)
    estimate = clustered([int(x) - int(y) for x, y in zip(a, b, strict=True)], clusters)
    assert (paired.low, paired.high, paired.stderr) == (estimate.low, estimate.high, estimate.stderr)
    assert paired.high - paired.low > paired_difference(a, b).high - paired_difference(a, b).low
    assert paired.p_value == mcnemar_exact(12, 8)


def test_undefined_is_nan() -> None:
    for clusters in (None, []):
        nothing = paired_difference([], [], clusters)
        values = (nothing.difference, nothing.low, nothing.high, nothing.stderr, nothing.p_value)
        assert all(map(math.isnan, (*values, nothing.discordant_share)))
        assert (nothing.n, nothing.only_a, nothing.only_b) == (0, 0, 0)
    one_cluster = paired_difference([True, True], [True, False], ["law", "law"])
    assert one_cluster.difference == 0.5
    assert math.isnan(one_cluster.low)
    assert all(map(math.isnan, adjusted_wald(0, 0, 0)))


def test_equal_models_still_have_a_width() -> None:
    paired = paired_difference([True, False] * 10, [True, False] * 10)
    assert paired.low < 0 == paired.difference < paired.high
    assert paired.p_value == 1


def test_refuses_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="2 outcomes of A but 1 of B"):
        paired_difference([True, False], [True])
    with pytest.raises(ValueError, match="not 0 or 1"):
        paired_difference([True], [0.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="counts within n"):
        adjusted_wald(3, 2, 4)
    with pytest.raises(ValueError, match="they are counts"):
        mcnemar_exact(-1, 2)

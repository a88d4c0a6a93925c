"""Holm's adjustment."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.statistics import holm

P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12)


def test_agrees_with_statsmodels() -> None:
    """From statsmodels 0.15.0: multipletests(..., method="holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005, 0.2, 0.03]) == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12])


def test_nan_is_no_test() -> None:
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert holm([]) == []


@settings(deadline=None)
@given(P_VALUES, st.floats(0.001, 0.999))
def test_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    """Holm's procedure as written: from the smallest on, stop at the first above alpha / (how many are left)."""
    rejected: set[int] = set()
    tests = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    for place in sorted(tests, key=lambda place: p_values[place]):
        if p_values[place] * (len(tests) - len(rejected)) > alpha:
            break
        rejected.add(place)
    adjusted = holm(p_values)
    assert {place for place, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(math.isnan(p) == math.isnan(raw) for p, raw in zip(adjusted, p_values, strict=True))
    assert all(raw <= p <= 1 for p, raw in zip(adjusted, p_values, strict=True) if not math.isnan(p))


def test_refuses_what_is_no_p_value() -> None:
    with pytest.raises(ValueError, match="from 0 to 1, or NaN"):
        holm([0.5, 1.5])

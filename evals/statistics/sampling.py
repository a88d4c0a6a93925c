"""Several answers to one item."""

from __future__ import annotations

import math


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The unbiased estimate that at least one of k samples is right, for one problem.

    1 - C(n - c, k) / C(n, k) with n samples of which c are right: Chen et al. 2021, "Evaluating Large Language Models
    Trained on Code", equation 1 (arXiv:2107.03374), here in whole numbers. With fewer samples than k it is NaN, as
    their harness gives no pass@k then; a benchmark's pass@k is the mean over its problems.

    Raises:
        ValueError: k is below 1, or not 0 <= num_correct <= num_samples.
    """
    if k < 1:
        raise ValueError(f"k={k} is not allowed: it must be 1 or more")
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct={num_correct} of {num_samples} is not allowed: it must be from 0 to all of them")
    if num_samples < k:
        return math.nan
    draws = math.comb(num_samples, k)
    return (draws - math.comb(num_samples - num_correct, k)) / draws

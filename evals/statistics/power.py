"""How small a difference between two models a number of items can show."""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
ALPHA = 0.05
# Miller 2024 (arXiv:2411.00640) finds correlations of 0.3 to 0.7 between two models' item scores; this is the middle.
CORRELATION = 0.5
# Two models right on half the items, correlated as above; at any other score common to both it is less.
DISCORDANT_SHARE = 0.25


def detectable_difference(
    n: int, discordant_share: float = DISCORDANT_SHARE, *, power: float = POWER, alpha: float = ALPHA
) -> float:
    """The smallest true difference of two scores that McNemar's test on n items finds with the given power.

    With s the discordant share, d the difference and z normal quantiles, Connor 1987 ("Sample size for testing
    differences in proportions for the paired-sample design", Biometrics 43(1)) has
    d * sqrt(n) = z(1 - alpha / 2) * sqrt(s) + z(power) * sqrt(s - d ** 2); this is solved for d. A difference
    needs at least as many discordant items, so where s < d would result, s = d is taken. The exact test needs a
    little more: 0.2 to 0.5 points with HumanEval's 164 items, 0.1 with 1000. Neither Holm's adjustment nor clusters
    are counted in; both make it larger.

    So 164 items cannot separate models closer than about 8 points: d is that where s is 0.13 or 0.14, which is what
    :func:`expected_discordance` gives for two models of about 16 % each. With the default s it is 11 points, and
    below 4.7 points nothing can be shown at any s.

    Args:
        discordant_share: share of the items only one of the models gets right, observed or expected.

    Returns:
        A fraction of 1, and NaN where n is too small to show any difference (below 4 at alpha = 0.05).

    Raises:
        ValueError: n is negative, or a share, power or alpha is out of its range.
    """
    if n < 0:
        raise ValueError(f"n={n} is not allowed: it must be 0 or more")
    if not 0 <= discordant_share <= 1:
        raise ValueError(f"discordant_share={discordant_share} is not allowed: it must be from 0 to 1")
    if not (0.5 <= power < 1 and 0 < alpha < 1):
        raise ValueError(f"power={power} with alpha={alpha} is not allowed: 0.5 <= power < 1 and 0 < alpha < 1")
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    if n < z_alpha**2:
        return math.nan
    # d = slope * sqrt(s) solves the quadratic, and s = d at s = slope ** 2.
    slope = (z_alpha * math.sqrt(n) + z_power * math.sqrt(n + z_power**2 - z_alpha**2)) / (n + z_power**2)
    return max(slope * math.sqrt(discordant_share), slope**2)


def expected_discordance(score_a: float, score_b: float, *, correlation: float = CORRELATION) -> float:
    """The discordant share of two models before they are compared, from their scores and an assumed correlation.

    It is pa * (1 - pb) + pb * (1 - pa) - 2 * correlation * sqrt(pa * (1 - pa) * pb * (1 - pb)), kept within what the
    two scores allow.

    Raises:
        ValueError: a score is not from 0 to 1, or the correlation not from -1 to 1.
    """
    if not (0 <= score_a <= 1 and 0 <= score_b <= 1 and -1 <= correlation <= 1):
        raise ValueError(
            f"scores {score_a} and {score_b} with correlation={correlation} are not allowed: scores are from 0 to 1, "
            "a correlation from -1 to 1"
        )
    wrong_a, wrong_b = 1 - score_a, 1 - score_b
    shared = 2 * correlation * math.sqrt(score_a * wrong_a * score_b * wrong_b)
    least, most = abs(score_a - score_b), min(score_a + score_b, wrong_a + wrong_b)
    return min(max(score_a * wrong_b + score_b * wrong_a - shared, least), most)

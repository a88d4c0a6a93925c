"""The statistics of scores. Shares are fractions of 1; what is undefined is NaN with n = 0, never 0.

After Miller 2024, "Adding Error Bars to Evals" (arXiv:2411.00640). Each module names the source of its formulas.
"""

from evals.statistics.clusters import Estimate, clustered, clustered_proportion
from evals.statistics.multiple import holm
from evals.statistics.paired import PairedDifference, adjusted_wald, mcnemar_exact, paired_difference
from evals.statistics.power import detectable_difference, expected_discordance
from evals.statistics.proportion import CONFIDENCE, Proportion, wilson
from evals.statistics.sampling import pass_at_k
from evals.statistics.score_warnings import at_chance, below_chance, is_constant, score_warnings

__all__ = [
    "CONFIDENCE",
    "Estimate",
    "PairedDifference",
    "Proportion",
    "adjusted_wald",
    "at_chance",
    "below_chance",
    "clustered",
    "clustered_proportion",
    "detectable_difference",
    "expected_discordance",
    "holm",
    "is_constant",
    "mcnemar_exact",
    "paired_difference",
    "pass_at_k",
    "score_warnings",
    "wilson",
]

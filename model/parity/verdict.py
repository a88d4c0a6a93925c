"""What a comparison must keep, and the sentence for one that does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from model.parity.classification import ClassifierComparison
from model.parity.compare import GREEDY_TOKENS, Comparison

FLOAT32_BOUND = 1e-4  # largest difference of a logit, in nats
LOSS_BOUND = 1e-4  # difference of a batch's loss: nats, or squared units for regression
LOW_PRECISION_RATIO = 1.25  # our mean error over Hugging Face's in the same dtype; both only round, each in its order


def faults(comparison: Comparison) -> list[str]:
    """What is over its bound, one phrase each. A number that is not finite is over every bound."""
    found = []
    largest = comparison.float32.largest
    if not largest <= FLOAT32_BOUND:
        found.append(f"float32 logits differ by {largest:.0e}")
    if comparison.num_equal < GREEDY_TOKENS:
        found.append(f"greedy token {comparison.num_equal + 1} differs")
    for dtype in comparison.low_precision:
        name, ratio = str(dtype).removeprefix("torch."), mean_ratio(comparison, dtype)
        if not math.isfinite(comparison.low_precision[dtype].ours.mean):
            found.append(f"{name} logits are not finite")
        elif ratio is not None and ratio > LOW_PRECISION_RATIO:
            found.append(f"{name} mean error is {ratio:.1f} times Hugging Face's")
    return found


def mean_ratio(comparison: Comparison, dtype: torch.dtype) -> float | None:
    """Our mean error over Hugging Face's; `None` where Hugging Face has none, or one that is not finite."""
    errors = comparison.low_precision[dtype]
    if errors.theirs is None or not math.isfinite(errors.theirs.mean):
        return None
    return errors.ours.mean / errors.theirs.mean if errors.theirs.mean else math.inf


def classifier_faults(comparison: ClassifierComparison) -> list[str]:
    """As :func:`faults`, of a classification head."""
    found = []
    if not comparison.float32.largest <= FLOAT32_BOUND:
        found.append(f"float32 logits differ by {comparison.float32.largest:.0e}")
    if not comparison.loss_error <= LOSS_BOUND:
        found.append(f"losses differ by {comparison.loss_error:.0e}")
    return found


def failures(comparisons: Sequence[Comparison], classifiers: Sequence[ClassifierComparison] = ()) -> list[str]:
    """A phrase for each comparison that has faults, beginning with its title."""
    checked = [(one.case, faults(one)) for one in comparisons] + [
        (other.case, classifier_faults(other)) for other in classifiers
    ]
    return [f"{case.section} / {case.name} ({', '.join(found)})" for case, found in checked if found]

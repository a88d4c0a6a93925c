"""How good answers are: accuracy, F1 and calibration, with 95 % intervals."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest  # type: ignore[import-untyped]

CONFIDENCE = 0.95
RESAMPLES = 2000
BINS = 10
"""Of the calibration curve, of equal width over the confidence, as Guo et al. 2017 (arXiv:1706.04599) use them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A share of 1 with its 95 % interval; all `None` where it is undefined (0 of 0)."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFigures:
    """Of one label: `precision` and `recall` with Wilson's interval, `f1` with the bootstrap's; `support`: test texts
    that have the label."""

    label: str
    precision: Figure
    recall: Figure
    f1: Figure
    support: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose confidence lies in (low, high]: their mean confidence and accuracy (Wilson's interval)."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """`error`: expected calibration error, the bins' gaps weighted by their counts."""

    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Of `count` answers.

    Attributes:
        accuracy: with Wilson's interval; macro_f1: mean of the labels' F1, with the bootstrap's (percentiles of
            RESAMPLES resamples of the texts).
        confusion: [label][answer] counts.
        calibration: of the most probable label; `None` where answers have no probabilities.
    """

    count: int
    accuracy: Figure
    macro_f1: Figure
    labels: tuple[LabelFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: Calibration | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def measure(
    targets: NDArray[np.int64],
    answers: NDArray[np.int64],
    probabilities: NDArray[np.floating] | None,
    *,
    labels: Sequence[str],
    seed: int,
) -> Measurement:
    """Compare answers with what they should be.

    Args:
        targets, answers: numbers of labels, [num_texts].
        probabilities: [num_texts, num_labels], if there are any.
        seed: of the bootstrap.
    """
    count = len(labels)
    confusion = np.bincount(targets * count + answers, minlength=count * count).reshape(count, count)
    f1 = f1_scores(confusion)
    # Drawing texts with replacement draws cells of the table, of which there are fewer.
    drawn = np.random.default_rng(seed).multinomial(len(targets), confusion.ravel() / len(targets), size=RESAMPLES)
    resampled = f1_scores(drawn.reshape(RESAMPLES, count, count))  # [RESAMPLES, num_labels]
    hits = confusion.diagonal()
    return Measurement(
        count=len(targets),
        accuracy=share(int(hits.sum()), len(targets)),
        macro_f1=_interval(_mean(f1), _mean(resampled)),
        labels=tuple(
            LabelFigures(
                label=label,
                precision=share(int(hits[index]), int(confusion[:, index].sum())),
                recall=share(int(hits[index]), int(confusion[index].sum())),
                f1=_interval(f1[index], resampled[:, index]),
                support=int(confusion[index].sum()),
            )
            for index, label in enumerate(labels)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        calibration=None if probabilities is None else calibrate(targets, probabilities),
    )


def share(count: int, total: int) -> Figure:
    """`count` of `total` with Wilson's score interval."""
    if not total:
        return Figure(None, None, None)
    interval = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Figure(count / total, float(interval.low), float(interval.high))


def f1_scores(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """[..., num_labels] of tables [..., label, answer]; NaN for a label that neither occurs nor is answered."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    marks = confusion.sum(-1) + confusion.sum(-2)
    with np.errstate(invalid="ignore"):
        scores: NDArray[np.float64] = 2 * hits / marks
    return scores


def calibrate(targets: NDArray[np.int64], probabilities: NDArray[np.floating]) -> Calibration:
    """Confidence against accuracy of the most probable label."""
    answers, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
    right = answers == targets
    places = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    bins, error = [], 0.0
    for place in range(BINS):
        inside = places == place
        count = int(inside.sum())
        confidence = float(confidences[inside].mean()) if count else None
        accuracy = share(int(right[inside].sum()), count)
        if confidence is not None and accuracy.value is not None:
            error += count / len(targets) * abs(confidence - accuracy.value)
        bins.append(Bin(place / BINS, (place + 1) / BINS, count, confidence, accuracy))
    return Calibration(error=error, bins=tuple(bins))


def _mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the labels that have one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of labels none has one: NaN
        mean: NDArray[np.float64] = np.nanmean(scores, axis=-1)
    return mean


def _interval(value: np.floating | NDArray[np.float64], resampled: NDArray[np.float64]) -> Figure:
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(known):
        return Figure(None, None, None)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(float(value), float(low), float(high))

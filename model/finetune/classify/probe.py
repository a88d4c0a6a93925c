"""A linear probe: logistic regression without bias on hidden states, as strong as the validation texts like it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight

STRENGTHS = tuple(10.0 ** (step / 2) for step in range(-8, 7))
"""Inverse strengths of the L2 penalty, C, from 1e-4 to 1e3 in half powers of ten: the path is followed from the first
on, and stops where validation stops getting better."""
MAX_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class PathStep:
    """A point of the path: C and the losses there, in nats a text, with class weights."""

    strength: float
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """`weight`, [num_labels, hidden_size] float32, of the best of the `path`'s steps."""

    weight: NDArray[np.float32]
    best: PathStep
    path: tuple[PathStep, ...]


def fit_probe(
    train: NDArray[np.float32],
    train_targets: NDArray[np.int64],
    validation: NDArray[np.float32],
    validation_targets: NDArray[np.int64],
    *,
    class_weights: NDArray[np.float64],
    patience: int,
    on_step: Callable[[int, int], None],
) -> Probe:
    """Follow the path until `patience` steps gave no lower validation loss.

    Args:
        train, validation: hidden states, [num_texts, hidden_size].
        class_weights: what a text of each label counts, [num_labels].
        on_step: called after each with steps done and the most there are; what it raises ends the work.
    """
    num_labels = len(class_weights)
    scale = train.astype(np.float64).std(axis=0)
    scale[scale == 0] = 1.0  # a number that never changes says nothing
    scaled = train / scale  # not centred: there is no bias to make up for it
    model = LogisticRegression(
        fit_intercept=False,
        class_weight=dict(enumerate(class_weights)),
        warm_start=True,
        max_iter=MAX_ITERATIONS,
    )
    steps: list[PathStep] = []
    best, best_weight = None, None
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(scaled, train_targets)
        weight = _rows(model.coef_, num_labels) / scale
        step = PathStep(
            strength,
            log_loss(train @ weight.T, train_targets, class_weights),
            log_loss(validation @ weight.T, validation_targets, class_weights),
        )
        steps.append(step)
        if best is None or step.validation_loss < best.validation_loss:
            best, best_weight = step, weight
        on_step(len(steps), len(STRENGTHS))
        if len(steps) - 1 - steps.index(best) >= patience:
            break
    assert best is not None
    assert best_weight is not None
    return Probe(weight=best_weight.astype(np.float32), best=best, path=tuple(steps))


def weights_of_classes(targets: NDArray[np.int64], num_labels: int, kind: str) -> NDArray[np.float64]:
    """`balanced`: inverse to how often a label occurs, 1 on average over the texts; `none`: 1 for all."""
    if kind == "none":
        return np.ones(num_labels)
    weights: NDArray[np.float64] = compute_class_weight("balanced", classes=np.arange(num_labels), y=targets)
    return weights


def log_loss(logits: NDArray[np.floating], targets: NDArray[np.int64], class_weights: NDArray[np.float64]) -> float:
    """Cross-entropy in nats a text, weighted as in training; logits are [num_texts, num_labels]."""
    wide = logits.astype(np.float64)
    highest = wide.max(axis=1)
    losses = highest + np.log(np.exp(wide - highest[:, None]).sum(axis=1)) - wide[np.arange(len(wide)), targets]
    return float(np.average(losses, weights=class_weights[targets]))


def _rows(coefficients: NDArray[np.float64], num_labels: int) -> NDArray[np.float64]:
    """A row a label: of two labels scikit-learn keeps only the difference of their rows."""
    if num_labels > 2:
        return coefficients
    return np.concatenate([-coefficients / 2, coefficients / 2])

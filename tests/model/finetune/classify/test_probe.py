"""The probe: what it converges to, how its path ends, and what class weights do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.finetune.classify.probe import STRENGTHS, Probe, fit_probe, log_loss, weights_of_classes
from model.layers.classification_loss import classification_loss

WIDTH = 12


def drawn(
    count: int, num_labels: int, seed: int, *, noise: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """States around a mean for each label, on axes of very different lengths."""
    centres = np.random.default_rng(0).normal(size=(num_labels, WIDTH)) * 2
    random = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(num_labels), random.integers(0, num_labels, count - num_labels)])
    states = (centres[targets] + noise * random.normal(size=(count, WIDTH))) * np.logspace(-2, 2, WIDTH)
    return states.astype(np.float32), targets


def fit(num_labels: int, *, noise: float = 1.0, patience: int = 3, count: int = 200) -> tuple[Probe, list[int]]:
    (train, train_targets), (validation, validation_targets) = (
        drawn(count, num_labels, s, noise=noise) for s in (1, 2)
    )
    steps: list[int] = []
    probe = fit_probe(
        train,
        train_targets,
        validation,
        validation_targets,
        class_weights=np.ones(num_labels),
        patience=patience,
        on_step=lambda done, total: steps.append(done),
    )
    return probe, steps


@pytest.mark.parametrize("num_labels", [2, 3, 6])
def test_it_learns_labels_it_can_tell_apart(num_labels: int) -> None:
    probe, steps = fit(num_labels, noise=0.3)
    assert (probe.weight.shape, probe.weight.dtype) == ((num_labels, WIDTH), np.float32)
    states, targets = drawn(200, num_labels, 3, noise=0.3)
    assert ((states @ probe.weight.T).argmax(axis=1) == targets).mean() > 0.97
    assert steps == list(range(1, len(probe.path) + 1))
    assert [step.strength for step in probe.path] == list(STRENGTHS[: len(probe.path)])


@pytest.mark.parametrize("num_labels", [2, 4])
def test_the_best_step_is_kept_and_the_path_ends_after_patience(num_labels: int) -> None:
    probe, _ = fit(num_labels, noise=6.0, patience=2, count=60)
    losses = [step.validation_loss for step in probe.path]
    best = losses.index(min(losses))
    assert probe.path[best] == probe.best
    assert len(probe.path) == best + 3 < len(STRENGTHS)  # noise this large is learnt by heart long before the end
    validation, targets = drawn(60, num_labels, 2, noise=6.0)
    loss = log_loss(validation @ probe.weight.T, targets, np.ones(num_labels))
    assert loss == pytest.approx(probe.best.validation_loss, rel=1e-3)


def test_the_loss_is_the_one_heads_are_trained_with() -> None:
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(9, 4)) * 50, random.integers(0, 4, 9)
    weights = np.array([1.0, 2.0, 0.1, 4.0])
    expected = classification_loss(
        torch.from_numpy(logits),
        torch.from_numpy(targets),
        problem_type="single_label",
        class_weights=torch.from_numpy(weights),
    )
    assert log_loss(logits, targets, weights) == pytest.approx(float(expected))


def test_class_weights() -> None:
    targets = np.array([0, 0, 0, 1])
    assert weights_of_classes(targets, 2, "balanced") == pytest.approx([4 / 6, 2])
    assert weights_of_classes(targets, 2, "none").tolist() == [1, 1]


def test_what_the_callback_raises_ends_it() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    states, targets = drawn(30, 2, 0)
    with pytest.raises(KeyboardInterrupt):
        fit_probe(states, targets, states, targets, class_weights=np.ones(2), patience=1, on_step=stop)

"""Our definition of the classification losses against Hugging Face's function and torch's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from model.checkpoint.classifier import PROBLEM_TYPES
from model.layers.classification_loss import classification_loss

ROWS = 7


def drawn(problem_type: str, num_labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits so large that a careless formula overflows, and targets."""
    generator = torch.Generator().manual_seed(num_labels)
    logits = torch.randn(ROWS, num_labels, generator=generator, dtype=torch.float64)
    logits[0] *= 1000
    if problem_type == "single_label_classification":
        return logits, torch.randint(num_labels, (ROWS,), generator=generator)
    if problem_type == "multi_label_classification":
        return logits, torch.randint(2, (ROWS, num_labels), generator=generator).double()
    return logits, torch.randn(ROWS, num_labels, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
@pytest.mark.parametrize("num_labels", [1, 2, 5])
def test_losses_are_hugging_faces(problem_type: str, num_labels: int) -> None:
    logits, targets = drawn(problem_type, num_labels)
    config = SimpleNamespace(num_labels=num_labels, problem_type=problem_type)
    expected = ForSequenceClassificationLoss(targets, logits, config)
    kind = PROBLEM_TYPES[problem_type]
    torch.testing.assert_close(classification_loss(logits, targets, problem_type=kind), expected)
    if num_labels == 1 and problem_type == "regression":
        torch.testing.assert_close(classification_loss(logits, targets[:, 0], problem_type=kind), expected)


def test_class_weights_and_gradients_are_torchs() -> None:
    logits, targets = drawn("single_label_classification", 5)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1], dtype=torch.float64)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = classification_loss(ours, targets, problem_type="single_label", class_weights=weights)
    expected = torch.nn.functional.cross_entropy(theirs, targets, weight=weights)
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)

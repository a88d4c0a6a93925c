"""The losses a classification head is trained with, as Hugging Face's `ForSequenceClassificationLoss` defines them."""

from __future__ import annotations

import torch
from torch import Tensor

from model.interface import ProblemType


def classification_loss(
    logits: Tensor, targets: Tensor, *, problem_type: ProblemType, class_weights: Tensor | None = None
) -> Tensor:
    """Mean loss of a batch.

    Args:
        logits: [rows, num_labels].
        targets: single label: each row's label, [rows] int64; multi label: 0 or 1, [rows, num_labels]; regression: the
            numbers, [rows, num_labels], or [rows] where there is one output.
        class_weights: single label only: what rows of each label count, [num_labels]; the mean is over their sum.

    Returns:
        Single label: cross-entropy in nats; multi label: binary cross-entropy in nats, over rows and labels;
        regression: squared error, over rows and outputs. A scalar in the logits' dtype.
    """
    if problem_type == "single_label":
        losses = logits.logsumexp(-1) - logits.gather(-1, targets[:, None]).squeeze(-1)  # [rows]
        if class_weights is None:
            return losses.mean()
        weights = class_weights[targets]
        return (losses * weights).sum() / weights.sum()
    targets = targets.reshape(logits.shape).to(logits.dtype)
    if problem_type == "regression":
        return (logits - targets).square().mean()
    # -log of the probability of what holds: softplus(-x) where the label does, softplus(x) where it does not.
    zero = torch.zeros((), dtype=logits.dtype, device=logits.device)
    return (torch.logaddexp(zero, logits) - targets * logits).mean()

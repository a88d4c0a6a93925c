"""What a classification head is called, and what its logits mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ProblemType: TypeAlias = Literal["single_label", "multi_label", "regression"]
"""One of the labels holds, each holds or does not, or every output is a number of its own. Hugging Face's
`single_label_classification`, `multi_label_classification` and `regression`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationHead:
    """A matrix on a prompt's last hidden state, as Hugging Face's `...ForSequenceClassification` has it.

    Attributes:
        name: the one to ask for it by.
        labels: of its logits, in their order.
        problem_type: see :data:`ProblemType`.
        source: the folder it came from.
        weight_sha256: of the matrix (float32, row by row), which with the engine's `weights_sha256` identifies its
            answers.
    """

    name: str
    labels: tuple[str, ...]
    problem_type: ProblemType
    source: str
    weight_sha256: str

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """What logits [..., num_labels] say, of the same shape: probabilities that add up to 1 (single label), each
        label's own probability (multi label, or a single label that is the only one), or the numbers themselves
        (regression). As Hugging Face's text-classification pipeline."""
        if self.problem_type == "regression":
            return logits
        if self.problem_type == "multi_label" or len(self.labels) == 1:
            logistic: NDArray[np.float32] = 0.5 * (1.0 + np.tanh(0.5 * logits))  # exp would overflow
            return logistic
        raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
        softmax: NDArray[np.float32] = raised / raised.sum(axis=-1, keepdims=True)
        return softmax

"""Random checkpoints with a classification head, of the three families at small size, written by Hugging Face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from model.parity.random_checkpoint import save_random_llama, save_random_mpt, save_random_persimmon

FAMILIES: dict[str, Callable[..., PreTrainedModel]] = {
    "persimmon": save_random_persimmon,
    "mpt": save_random_mpt,
    "llama": save_random_llama,
}


def save_random_classifier(
    folder: Path,
    family: str,
    *,
    num_labels: int = 3,
    problem_type: str | None = None,
    pad_token_id: int | None = None,
    **changes: Any,
) -> PreTrainedModel:
    """A Hugging Face `...ForSequenceClassification`, saved to `folder`, eager mode.

    Args:
        num_labels, problem_type, pad_token_id: as its config has them.
        changes: of the family's random checkpoint.
    """
    FAMILIES[family](folder, **changes)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=num_labels,
        problem_type=problem_type,
        pad_token_id=pad_token_id,
        dtype=torch.float32,
        attn_implementation="eager",
        local_files_only=True,
    ).eval()
    with torch.no_grad():
        # So large that logits differ by units, as `randomize` makes the other weights.
        weight = model.score.weight
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(11)) * 0.2)
    model.save_pretrained(folder)
    return model

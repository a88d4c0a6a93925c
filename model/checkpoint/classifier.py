"""Checkpoints of Hugging Face's `...ForSequenceClassification`: a matrix `score` in place of a language-model head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint.errors import CheckpointError
from model.checkpoint.head import HeadWeights
from model.checkpoint.safetensors_header import TensorEntry
from model.checkpoint.weight_files import open_tensors
from model.interface import ProblemType

ARCHITECTURE = "ForSequenceClassification"
SCORE = "score.weight"  # [num_labels, hidden_size], no bias

PROBLEM_TYPES: dict[str, ProblemType] = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}
"""Hugging Face's names, and ours."""


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether config.json says that the weights end in `score` and have no language-model head."""
    architectures = config.get("architectures")
    return isinstance(architectures, list) and any(str(name).endswith(ARCHITECTURE) for name in architectures)


def without_lm_head(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose model has no language-model head of its own: one tied to the embedding takes no memory."""
    return {**config, "tie_word_embeddings": True}


def pad_token_id(config: Mapping[str, Any]) -> int | None:
    """The id that does not count as a prompt's last token.

    Raises:
        CheckpointError: it is no whole number.
    """
    value = config.get("pad_token_id")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise CheckpointError(f"config.json has pad_token_id={value!r}: it must be a whole number or null")
    return value


def read_own_head(
    config: Mapping[str, Any], entries: Mapping[str, TensorEntry], *, folder: Path, name: str, hidden_size: int
) -> HeadWeights | None:
    """The head of a classifier's folder, which gets `name`; `None` for every other checkpoint.

    Raises:
        CheckpointError: it is missing, or does not fit config.json.
    """
    if not is_classifier(config):
        return None
    entry = entries.get(SCORE)
    if entry is None:
        raise CheckpointError(f"{folder} lacks the tensor {SCORE}: fetch the checkpoint again")
    if len(entry.shape) != 2 or not entry.shape[0] or entry.shape[1] != hidden_size:
        raise CheckpointError(
            f"{entry.file} holds {SCORE} with shape {list(entry.shape)} where config.json asks for [labels, "
            f"{hidden_size}]: config.json and weights do not belong together"
        )
    with open_tensors(entry.file) as stored:
        weight = stored(SCORE)[:].to(torch.float32)
    if not weight.isfinite().all():
        raise CheckpointError(f"{entry.file} holds {SCORE} with numbers that are not finite: fetch it again")
    return HeadWeights.of(
        weight.numpy(),
        name=name,
        labels=_labels(config, len(weight)),
        problem_type=_problem_type(config, len(weight)),
        source=str(folder),
    )


def _labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    names = config.get("id2label")
    if names is None:  # as Hugging Face calls them then
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(names, dict) or set(names) != {str(index) for index in range(count)}:
        raise CheckpointError(f"config.json has id2label={names!r}: {SCORE} has {count} rows, numbered from 0")
    return tuple(str(names[str(index)]) for index in range(count))


def _problem_type(config: Mapping[str, Any], num_labels: int) -> ProblemType:
    """Where config.json leaves it open, Hugging Face's training goes by the labels it is given; a head with several
    outputs answers as its pipeline does, with one of them."""
    name = config.get("problem_type")
    if name is None:
        return "regression" if num_labels == 1 else "single_label"
    if name not in PROBLEM_TYPES:
        raise CheckpointError(f"config.json has problem_type={name!r}: use one of {', '.join(PROBLEM_TYPES)}")
    return PROBLEM_TYPES[name]

"""A classification head's matrix, and the folder in which one trained on a frozen base is kept.

`head.json` says what the rows of `head.safetensors` mean and on which weights they were trained.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeGuard

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.interface import ClassificationHead, ProblemType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DESCRIPTION, WEIGHTS, TENSOR = "head.json", "head.safetensors", "score.weight"
KINDS: tuple[ProblemType, ...] = ("single_label", "multi_label", "regression")


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """`info` and its matrix `weight`, [num_labels, hidden_size] float32."""

    info: ClassificationHead
    weight: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        weight: NDArray[np.float32],
        *,
        name: str,
        labels: Sequence[str],
        problem_type: ProblemType,
        source: str,
    ) -> Self:
        """A head of a matrix."""
        weight = np.ascontiguousarray(weight, dtype=np.float32)
        digest = hashlib.sha256(weight.astype("<f4").tobytes()).hexdigest()
        info = ClassificationHead(
            name=name, labels=tuple(labels), problem_type=problem_type, source=source, weight_sha256=digest
        )
        return cls(info, weight)

    def logits(self, hidden_states: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """[num_labels] for each hidden state, [hidden_size]; each by itself, so that it does not depend on the rest of
        the batch."""
        return [self.weight @ state for state in hidden_states]


def write_head(folder: Path, head: HeadWeights, *, base_name: str, base_sha256: str) -> None:
    """Write a head that was trained on the weights `base_sha256`, which the user calls `base_name`, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    info = head.info
    description = {
        "name": info.name,
        "labels": list(info.labels),
        "problem_type": info.problem_type,
        "base": {"name": base_name, "weights_sha256": base_sha256},
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    save_file({TENSOR: head.weight}, folder / WEIGHTS)


def read_head(folder: Path, *, base_name: str, base_sha256: str, hidden_size: int) -> HeadWeights:
    """The head in a folder, for the weights `base_sha256`, which the user calls `base_name`.

    Raises:
        CheckpointError: there is no head, it is damaged, or it was trained on other weights.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        if (folder / "config.json").is_file():
            raise CheckpointError(f"{folder} is a whole checkpoint: open it as a model instead of attaching it")
        raise CheckpointError(f"{path} is missing: give a folder that `python -m model.finetune classify` wrote")
    description = read_json(path)
    base = description.get("base")
    if not isinstance(base, dict):
        raise CheckpointError(f"{path} does not name the base it was trained on: train the head again")
    if base.get("weights_sha256") != base_sha256:
        raise CheckpointError(
            f"the head in {folder} was trained on {base.get('name')} with weights "
            f"{str(base.get('weights_sha256'))[:12]}, not on this {base_name} with weights {base_sha256[:12]}: "
            "train it again on these"
        )
    name, labels, kind = description.get("name"), description.get("labels"), description.get("problem_type")
    if not isinstance(name, str) or not name or kind not in KINDS or not _are_labels(labels):
        raise CheckpointError(f"{path} has no name, labels and problem_type that can be used: train the head again")
    weight = _read_weight(folder / WEIGHTS)
    if weight.shape != (len(labels), hidden_size) or not np.isfinite(weight).all():
        raise CheckpointError(
            f"{folder / WEIGHTS} must hold finite numbers of shape {[len(labels), hidden_size]} and has shape "
            f"{list(weight.shape)}: train the head again"
        )
    return HeadWeights.of(weight, name=name, labels=labels, problem_type=kind, source=str(folder))


def _are_labels(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(label, str) for label in value)


def _read_weight(path: Path) -> NDArray[np.float32]:
    try:
        weight: NDArray[np.float32] = load_file(path)[TENSOR].astype(np.float32)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): train the head again") from None
    return weight

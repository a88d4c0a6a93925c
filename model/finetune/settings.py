"""What a training run is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.interface import EngineError


class SettingsError(EngineError):
    """A setting breaks its rule; the text is one sentence with the value, the rule and what to do."""


CHOICES = {
    "method": ("lora", "full"),
    "dtype": ("bfloat16", "float32"),
    "data_format": ("chat", "plain"),
    "optimizer": ("adamw", "adafactor", "muon"),
    "too_long": ("refuse", "skip", "truncate"),
    "device": ("auto", "cpu", "cuda"),
}
LEARNING_RATES = {"lora": 2e-4, "full": 1e-5}
"""Defaults. LoRA: Hu et al. 2021 (arXiv:2106.09685), table 11, use 2e-4 for GPT-3; full: the usual order for models of
this size, such as Llama 2 chat's 2e-5 (arXiv:2307.09288, section 3.1), and a little lower."""

NO_FLOAT16 = (
    "dtype='float16' is not allowed in training: squared ReLU leaves float16's range at inputs of 256, and gradients "
    "below 6e-8 vanish, so that the loss becomes NaN: use bfloat16"
)
MAX_SEED = 2**32 - 1  # numpy's, which the Trainer seeds too


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """Everything that decides the result; the same settings and data give the same weights on the same machine.

    Attributes:
        checkpoint: folder or Hub id; `revision`: Hub branch, tag or commit.
        data, validation: files of examples, see :func:`model.finetune.documents.read_documents`.
        output: folder to write.
        method: `lora` trains low-rank additions to all linear layers but the head (Hu et al. 2021), `full` all weights.
        dtype: of the computation; weights that are trained and their optimizer's state are float32 always.
        data_format: `chat` or `plain`, how a prompt and its answer are put together.
        prompt_weight: what a token the model only reads counts in the loss, where a token it writes counts 1.
        row_length: tokens in a row of packed documents.
        too_long: what to do with a document longer than a row.
        rows_per_step: rows that make up one step of the optimizer, over all processes.
        rows_at_once: rows a process computes together; fewer need less memory.
        epochs: times the data is gone through; `max_steps`, if given, says instead how many steps there are.
        shuffle: whether rows are shuffled anew in every epoch.
        optimizer: `adamw`; `adafactor` (half of AdamW's memory); `muon` for the layers' matrices with `adamw` for the
            rest.
        learning_rate: the peak; of everything but Muon's matrices. `None`: a default for the method.
        matrix_learning_rate: of Muon's matrices.
        learning_rate_of: other peaks for parameters whose name has this part.
        weight_decay: of matrices.
        warm_up_steps, decay_steps: linear at the beginning and at the end, constant between. The warm-up is never more
            than a tenth of all steps; `None` for decay: all that follows the warm-up. `last_fraction`: of the peak,
            where the warm-up begins and the decay ends.
        max_grad_norm: longer gradients are shortened to this.
        lora_rank, lora_alpha, lora_dropout: r, alpha and p of Hu et al. 2021.
        gradient_checkpointing: compute activations twice instead of keeping them.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`; CUDA_VISIBLE_DEVICES says which GPUs.
        seed: of LoRA's first weights, of dropout and of the shuffling.
        log_every, save_every: steps between two rows of the loss curve, and between two saved states.

    Raises:
        SettingsError: a value breaks its rule.
    """

    checkpoint: str
    data: Path
    output: Path
    revision: str | None = None
    validation: Path | None = None
    method: str = "lora"
    dtype: str = "bfloat16"
    data_format: str = "chat"
    prompt_weight: float = 0.0
    row_length: int = 2048
    too_long: str = "refuse"
    rows_per_step: int = 8
    rows_at_once: int = 1
    epochs: int = 3
    max_steps: int | None = None
    shuffle: bool = True
    optimizer: str = "adamw"
    learning_rate: float | None = None
    matrix_learning_rate: float = 2.5e-3
    learning_rate_of: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    warm_up_steps: int = 10
    decay_steps: int | None = None
    last_fraction: float = 0.02
    max_grad_norm: float = 1.0
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    gradient_checkpointing: bool = True
    device: str = "auto"
    seed: int = 0
    log_every: int = 10
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.dtype == "float16":
            raise SettingsError(NO_FLOAT16)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name}={getattr(self, name)!r} is not allowed: use {' or '.join(allowed)}")
        for name in ("row_length", "rows_per_step", "rows_at_once", "epochs", "lora_rank", "log_every", "save_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("max_steps", self.max_steps is None or self.max_steps >= 1, "at least 1")
        self._require("learning_rate", self.learning_rate is None or 0 < self.learning_rate < math.inf, "above 0")
        for name in ("matrix_learning_rate", "max_grad_norm", "lora_alpha"):
            self._require(name, 0 < getattr(self, name) < math.inf, "above 0")
        for name in ("prompt_weight", "weight_decay", "warm_up_steps"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        self._require("decay_steps", self.decay_steps is None or self.decay_steps >= 0, "0 or more")
        for part, rate in self.learning_rate_of.items():
            if not part or not 0 < rate < math.inf:
                raise SettingsError(
                    f"learning_rate_of={part}={rate} is not allowed: give a part of a parameter's name and a rate "
                    "above 0"
                )
        self._require("lora_dropout", 0 <= self.lora_dropout < 1, "at least 0 and below 1")
        self._require("last_fraction", 0 <= self.last_fraction <= 1, "from 0 to 1")
        self._require("seed", 0 <= self.seed <= MAX_SEED, f"from 0 to {MAX_SEED}")
        if self.rows_per_step % self.rows_at_once:
            raise SettingsError(
                f"rows_per_step={self.rows_per_step} is not allowed: it must be a multiple of "
                f"rows_at_once={self.rows_at_once}"
            )

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise SettingsError(f"{name}={getattr(self, name)} is not allowed: it must be {rule}")

    @property
    def peak_learning_rate(self) -> float:
        """`learning_rate`, or the method's default."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate

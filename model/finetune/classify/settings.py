"""What the training of a classification head is told."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from model.finetune.settings import MAX_SEED, NO_FLOAT16, SettingsError

CHOICES = {
    "method": ("probe", "lora"),
    "bad_rows": ("refuse", "skip"),
    "class_weights": ("balanced", "none"),
    "dtype": ("auto", "bfloat16", "float32"),
    "device": ("auto", "cpu", "cuda"),
}


def default_cache() -> Path:
    """Where hidden states are kept: a folder of the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "persimmon-workbench" / "hidden-states"


@dataclass(frozen=True, kw_only=True)
class ClassifySettings:
    """Everything that decides the result; the same settings and data give the same head on the same machine.

    Attributes:
        model: folder or Hub id of the base; `revision`: Hub branch, tag or commit.
        data: a .csv or .jsonl file with a text and a label in each row.
        output: folder to write; its name is the head's, unless `name` says otherwise.
        method: `probe` fits a matrix on the frozen base's hidden states; `lora` also trains low-rank additions to its
            linear layers (Hu et al. 2021).
        whole: also write the base's weights, so that the folder is a checkpoint by itself, here and in transformers; a
            probe without them is a few KB that are attached to the base. With LoRA always.
        test: a file like `data` to measure on; without one, `test_share` of the data.
        text_column, label_column: names of the columns.
        bad_rows: `refuse` the file, or `skip` them and say so.
        validation_share, test_share: of each label's texts, of 1; for stopping, and for the measurements.
        class_weights: `balanced` makes every label count the same in the loss, `none` every text.
        patience: steps on the probe's path of weaker and weaker regularisation, or epochs of LoRA, without a lower
            validation loss before training stops.
        dtype: of the computation; `auto`: the engine's own choice for a probe, bfloat16 for LoRA.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.
        seed: of the split, of LoRA's first weights and of its shuffling.
        epochs, rows_per_step, rows_at_once, learning_rate, lora_rank, lora_alpha: of LoRA, as for `model.finetune`.
        cache: folder for hidden states, by the hash of weights and texts.

    Raises:
        SettingsError: a value breaks its rule.
    """

    model: str
    data: Path
    output: Path
    revision: str | None = None
    name: str | None = None
    method: str = "probe"
    whole: bool = True
    test: Path | None = None
    text_column: str = "text"
    label_column: str = "label"
    bad_rows: str = "refuse"
    validation_share: float = 0.15
    test_share: float = 0.15
    class_weights: str = "balanced"
    patience: int = 3
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0
    epochs: int = 10
    rows_per_step: int = 16
    rows_at_once: int = 4
    learning_rate: float = 2e-4
    lora_rank: int = 16
    lora_alpha: float = 32.0
    cache: Path = field(default_factory=default_cache)

    def __post_init__(self) -> None:
        if self.dtype == "float16":
            raise SettingsError(NO_FLOAT16)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name}={getattr(self, name)!r} is not allowed: use {' or '.join(allowed)}")
        for name in ("patience", "epochs", "rows_per_step", "rows_at_once", "lora_rank"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("validation_share", "test_share"):
            self._require(name, 0 < getattr(self, name) < 0.5, "above 0 and below 0.5")
        for name in ("learning_rate", "lora_alpha"):
            self._require(name, 0 < getattr(self, name) < math.inf, "above 0")
        self._require("seed", 0 <= self.seed <= MAX_SEED, f"from 0 to {MAX_SEED}")
        self._require("text_column", self.text_column != self.label_column, "another column than label_column")
        self._require("name", self.name is None or bool(self.name.strip()), "a text that is not empty")
        self._require(
            "rows_per_step",
            self.rows_per_step % self.rows_at_once == 0,
            f"a multiple of rows_at_once={self.rows_at_once}",
        )
        self._require("whole", self.whole or self.method == "probe", "true with LoRA, which changes the weights")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise SettingsError(f"{name}={getattr(self, name)!r} is not allowed: it must be {rule}")

    @property
    def head_name(self) -> str:
        """`name`, or the output folder's."""
        return self.name or self.output.name

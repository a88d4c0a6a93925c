"""The loss curve as a CSV file and as a picture, written while training goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from model.interface import EngineError

COLUMNS = {
    "step": "step",
    "epoch": "epoch",
    "loss": "loss",
    "eval_loss": "validation_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
}
"""The Trainer's names, and those of the file. Losses in nats per token, weighted."""


class Diverged(EngineError):
    """The loss is no number any more."""


class LossCurve(TrainerCallback):
    """Write `loss.csv` at every log and `loss.png` at every saved state and at the end, into `folder`.

    Raises:
        Diverged: at a log, from inside the training.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> None:
        # A run that goes on would keep the intervals it was started with.
        state.compute_steps(args, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True  # or the curve would end some steps before the training

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **unused: Any,
    ) -> None:
        for key, name in (("loss", "loss"), ("grad_norm", "gradient")):
            value = (logs or {}).get(key, 0.0)
            if not math.isfinite(value):
                raise Diverged(
                    f"the {name} is {value} after step {state.global_step}: remove {self._folder} and give a lower "
                    "learning rate or more warm-up steps"
                )
        if state.is_world_process_zero:
            curve(state.log_history).to_csv(self._folder / "loss.csv", index=False)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any) -> None:
        if state.is_world_process_zero:
            draw(curve(state.log_history), self._folder / "loss.png")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> None:
        self.on_save(args, state, control)


def curve(history: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a step that was logged, with the columns of :data:`COLUMNS`; empty cells where nothing was measured."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "loss" in entry or "eval_loss" in entry:
            known = {COLUMNS[key]: value for key, value in entry.items() if key in COLUMNS}
            rows.setdefault(entry["step"], {}).update(known)
    return pd.DataFrame(list(rows.values()), columns=list(COLUMNS.values()))


def draw(losses: pd.DataFrame, path: Path) -> None:
    """The curve as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for column, label, style in (("loss", "training", "-"), ("validation_loss", "validation", "o-")):
        known = losses.dropna(subset=[column])
        if len(known):
            axes.plot(known["step"], known[column], style, markersize=4, linewidth=1.2, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)

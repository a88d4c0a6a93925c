"""Hugging Face's Trainer over packed rows, with a weight for every token."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from model.finetune.packing import attention_bias


class PackedTrainer(Trainer):
    """Next-token loss in nats over the rows of `model.finetune.packing.collate`.

    Every token counts with its weight, over the weight of the whole step (all processes, all accumulated batches), so
    that a step does not depend on how its rows are dealt out.

    Args:
        dtype: of the computation.
        takes_positions: whether the model has a `position_ids` argument; without one (MPT) positions must only matter
            by their differences.
        options: of `Trainer`.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, dtype: torch.dtype, takes_positions: bool, **options: Any) -> None:
        super().__init__(**options)
        self._dtype = dtype
        self._takes_positions = takes_positions

    def _run_epoch(self, **options: Any) -> None:
        # A run may have been killed between its last saved state and its folder; the Trainer would add a step.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**options)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The batches of a step, and the weight of all their tokens on all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._blank_repeats(batches[-1])
        weight = torch.stack([batch["weights"].sum() for batch in batches]).sum().to(device)
        return batches, self.accelerator.reduce(weight, "sum")

    def _blank_repeats(self, batch: dict[str, Tensor]) -> None:
        """Give no weight to the rows with which accelerate fills up the processes' last batches of an epoch."""
        state = self.accelerator.gradient_state
        if state.end_of_dataloader:
            # Not state.remainder: in an epoch that is gone on with, it takes one process's rows for those of all.
            size = self.args.per_device_train_batch_size
            remainder = len(state.active_dataloader.dataset) % (size * self.accelerator.num_processes)
            if remainder:
                batch["weights"][max(0, remainder - self.args.process_index * size) :] = 0.0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        **unused: Any,
    ) -> Any:
        """This batch's share of the step's loss, times the number of processes, by which gradients are divided."""
        assert num_items_in_batch is not None
        return self._loss_sum(model, inputs) / num_items_in_batch * self.accelerator.num_processes

    def _loss_sum(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        input_ids, weights = inputs["input_ids"], inputs["weights"]  # [rows, length]
        positions = {"position_ids": inputs["position_ids"]} if self._takes_positions else {}
        # The head runs only where something is learnt: with 262,144 entries it is the most expensive part.
        kept = (weights[:, 1:] > 0).any(dim=0).nonzero().squeeze(-1)  # [num_kept]
        logits = model(
            input_ids=input_ids,
            attention_mask=attention_bias(inputs["document_ids"], self._dtype),
            use_cache=False,
            logits_to_keep=kept,
            **positions,
        ).logits  # [rows, num_kept, vocab_size]
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), input_ids[:, 1:][:, kept].flatten(), reduction="none"
        )
        total: Tensor = (losses * weights[:, 1:][:, kept].flatten()).sum()
        return total

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss over the validation rows, weighted as in training."""
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64)
        for batch in self.get_eval_dataloader(eval_dataset):
            self._blank_repeats(batch)
            inputs = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                loss = self._loss_sum(self.model, inputs)
            total += torch.stack([loss, inputs["weights"].sum()]).double().cpu()
        summed = self.accelerator.reduce(total.to(self.args.device, torch.float32), "sum")
        metrics = {f"{metric_key_prefix}_loss": (summed[0] / summed[1]).item()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class StopOnSignal(TrainerCallback):
    """At Ctrl-C or SIGTERM inside `with`: finish the step, save, stop. `stopped` says that it happened."""

    def __init__(self) -> None:
        self.stopped = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {name: signal.signal(name, self._stop) for name in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any) -> None:
        if torch.distributed.is_initialized():
            # A signal may reach the processes in different steps; they must stop in the same one.
            flag = torch.tensor(int(self.stopped), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            self.stopped = bool(flag)
        if self.stopped:
            control.should_save = control.should_training_stop = True


class TokenProgress(ProgressCallback):
    """One progress bar, with the latest loss beside it instead of a line for every one."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **unused: Any,
    ) -> None:
        if state.is_world_process_zero and isinstance(self.training_bar, tqdm):
            known = {"loss": "loss", "eval_loss": "validation loss"}
            shown = {known[key]: f"{value:.4f}" for key, value in (logs or {}).items() if key in known}
            if shown:
                self.training_bar.set_postfix(shown)

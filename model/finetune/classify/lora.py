"""LoRA on a classifier: Hugging Face's `...ForSequenceClassification` and Trainer, low-rank additions by peft."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from model.checkpoint.config_json import read_json
from model.checkpoint.load import build_model
from model.checkpoint.special_tokens import special_tokens
from model.checkpoint.weight_files import read_entries
from model.finetune.classify.settings import ClassifySettings
from model.finetune.classify.split import Part, Split
from model.finetune.classify.write import label_settings, write_whole
from model.finetune.loss_curve import Diverged
from model.finetune.prepare_model import config_for_training
from model.layers.classification_loss import classification_loss
from model.tokenizer import load_tokenizer

WARM_UP_SHARE = 0.06  # of all steps: LoRA's own experiments on classification, Hu et al. 2021, table 9


class LoraBase:
    """A base's folder: what its texts become, and how long they may be.

    Raises:
        CheckpointError: the files are wrong.
    """

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / "config.json")
        self.folder = folder
        self.encode = load_tokenizer(folder, special_tokens(folder, config)).encode_prompt
        model, _ = build_model(folder, config, read_entries(folder), rope_position_dtype=torch.float32)
        self.context_length = model.config.context_length


def train_lora(
    base: LoraBase,
    split: Split,
    folder: Path,
    *,
    settings: ClassifySettings,
    class_weights: NDArray[np.float64],
    tell: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Train until `patience` epochs gave no lower validation loss, and write the best epoch's weights, merged, into
    `folder`.

    Args:
        class_weights: what a text of each label counts, [num_labels].
        tell: called with stage, steps done and all steps; what it raises ends the training.

    Returns:
        What happened: losses by epoch, the one chosen, the dtype.

    Raises:
        Diverged: the loss is no number any more.
        CheckpointError, SettingsError: this base cannot be trained so.
    """
    dtype = "bfloat16" if settings.dtype == "auto" else settings.dtype
    rows = {name: _encoded(part, base) for name, part in (("train", split.train), ("validation", split.validation))}
    longest = max(len(row["input_ids"]) for part in rows.values() for row in part)
    _, config = config_for_training(base.folder, row_length=longest)
    for key, value in label_settings(base.folder, split.labels).items():
        setattr(config, key, value)
    torch.manual_seed(settings.seed)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-lora-", dir=folder.parent) as work:
        arguments = _arguments(settings, Path(work), dtype, len(rows["train"]))
        model = AutoModelForSequenceClassification.from_pretrained(
            str(base.folder),
            config=config,
            dtype=getattr(torch, dtype),
            # MPT has only eager attention in transformers; our own for CPUs takes masks made for packed rows.
            attn_implementation="sdpa" if arguments.device.type == "cuda" and config.model_type != "mpt" else "eager",
            ignore_mismatched_sizes=True,  # the base may be a classifier of other labels
        )
        adapted = get_peft_model(
            model,
            LoraConfig(
                r=settings.lora_rank,
                lora_alpha=settings.lora_alpha,
                target_modules="all-linear",
                modules_to_save=["score"],
                task_type="SEQ_CLS",
            ),
        )
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        pad_token_id = config.pad_token_id
        trainer = HeadTrainer(
            class_weights=torch.tensor(class_weights, dtype=torch.float32),
            model=adapted,
            args=arguments,
            train_dataset=rows["train"],
            eval_dataset=rows["validation"],
            data_collator=lambda batch: collate(batch, pad_token_id),
            callbacks=[EarlyStoppingCallback(settings.patience), TellSteps(tell)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.train()
        history = trainer.state.log_history
        merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    merged.to(getattr(torch, dtype))
    merged.config.use_cache = True
    write_whole(folder, merged.cpu(), base.folder)
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    return {
        "dtype": dtype,
        "steps": trainer.state.global_step,
        "validation_losses": losses,
        "chosen_epoch": int(np.argmin(losses)) + 1,
    }


class HeadTrainer(Trainer):
    """Weighted cross-entropy over the texts of a whole step, however they are dealt out.

    Args:
        class_weights: [num_labels] float32.
        options: of `Trainer`.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, class_weights: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self._class_weights = class_weights.to(self.args.device)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The batches of a step, and the weight of all their texts."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, torch.stack([self._weight(batch["labels"]) for batch in batches]).sum()

    def _weight(self, targets: Tensor) -> Tensor:
        return self._class_weights[targets.to(self._class_weights.device)].sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        **unused: Any,
    ) -> Any:
        """This batch's share of the step's loss."""
        assert num_items_in_batch is not None
        return self._loss_sum(model, inputs) / num_items_in_batch

    def _loss_sum(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        targets = inputs["labels"]
        logits = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).logits.float()
        mean = classification_loss(logits, targets, problem_type="single_label", class_weights=self._class_weights)
        return mean * self._weight(targets)

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss over the validation texts, weighted as in training."""
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64)
        for batch in self.get_eval_dataloader(eval_dataset):
            inputs = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                loss = self._loss_sum(self.model, inputs)
            total += torch.stack([loss, self._weight(inputs["labels"])]).double().cpu()
        metrics = {f"{metric_key_prefix}_loss": (total[0] / total[1]).item()}
        if not math.isfinite(metrics[f"{metric_key_prefix}_loss"]):
            raise Diverged(f"the validation loss is no number after step {self.state.global_step}: lower learning_rate")
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class TellSteps(TrainerCallback):
    """Pass steps on."""

    def __init__(self, tell: Callable[[str, int, int], None]) -> None:
        self._tell = tell

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any) -> None:
        self._tell("training", state.global_step, state.max_steps)


def collate(batch: Sequence[dict[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
    """Texts padded on the right to the longest: input_ids and attention_mask [rows, length], labels [rows]."""
    longest = max(len(row["input_ids"]) for row in batch)
    ids = torch.full((len(batch), longest), pad_token_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(batch):
        count = len(row["input_ids"])
        ids[index, :count] = torch.tensor(row["input_ids"])
        mask[index, :count] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in batch])}


def _encoded(part: Part, base: LoraBase) -> list[dict[str, Any]]:
    return [
        {"input_ids": base.encode(text), "labels": target}
        for text, target in zip(part.texts, part.targets.tolist(), strict=True)
    ]


def _arguments(settings: ClassifySettings, work: Path, dtype: str, num_texts: int) -> TrainingArguments:
    steps = settings.epochs * -(-num_texts // settings.rows_per_step)
    use_cpu = settings.device == "cpu" or not torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(work),
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=use_cpu,
        bf16=dtype == "bfloat16",
        per_device_train_batch_size=settings.rows_at_once,
        per_device_eval_batch_size=settings.rows_at_once,
        gradient_accumulation_steps=settings.rows_per_step // settings.rows_at_once,
        activation_checkpointing=not use_cpu,
        activation_checkpointing_kwargs={"use_reentrant": False},
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(WARM_UP_SHARE * steps),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        remove_unused_columns=False,
        dataloader_pin_memory=not use_cpu,
        report_to="none",
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # or nn.DataParallel would average losses by itself
    return arguments

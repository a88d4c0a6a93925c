"""One training run from settings to a finished folder."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers import ProgressCallback, TrainingArguments

from model.checkpoint.config_json import read_json
from model.checkpoint.fingerprint import weights_sha256
from model.checkpoint.source import CheckpointSource, resolve
from model.finetune.encode import DocumentEncoder
from model.finetune.loss_curve import LossCurve
from model.finetune.optimizers import make_optimizer
from model.finetune.packed_data import PackedData, read_packed, write_packed
from model.finetune.packing import collate
from model.finetune.prepare_model import add_lora, load_for_training, takes_positions
from model.finetune.settings import FinetuneSettings, SettingsError
from model.finetune.trainer import PackedTrainer, StopOnSignal, TokenProgress
from model.finetune.unfinished import claim, identity_of, last_state, remove_torn_states, step_of, work_folder
from model.finetune.write import write_checkpoint
from model.interface import EngineError


@dataclass(frozen=True)
class FinetuneResult:
    """`finished` is false after Ctrl-C; then `steps` are saved and the same settings go on from there.

    Losses in nats a token; `None` where nothing was measured. `resumed_from`: step, 0 for a fresh start; `seconds`: of
    training since then.
    """

    finished: bool
    steps: int
    resumed_from: int
    final_loss: float | None
    validation_loss: float | None
    seconds: float


def quiet() -> None:
    """Leave one progress bar, the training's, and no warnings about what peft and transformers say to each other."""
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*is deprecated", category=FutureWarning)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def finetune(settings: FinetuneSettings) -> FinetuneResult:
    """Train, write `settings.output`, and clear the working folder away.

    With several processes (torchrun), all of them call this. Call it from the main thread: it listens to Ctrl-C.

    Raises:
        CheckpointError, DataError, SettingsError, Diverged: as the sentence says.
    """
    if settings.output.exists():
        raise SettingsError(f"output={str(settings.output)!r} is there already: choose another folder or remove it")
    source = resolve(settings.checkpoint, revision=settings.revision)
    config = read_json(source.folder / "config.json")
    encoder = DocumentEncoder(source.folder, config)
    work = work_folder(settings.output)
    arguments = training_arguments(settings, work)
    refusal: EngineError | None = None
    if arguments.process_index == 0:
        try:
            claim(work, settings, source, processes=arguments.world_size)
            remove_torn_states(work, processes=arguments.world_size)
            for path, folder in ((settings.data, work / "data"), (settings.validation, work / "validation")):
                if path is not None:
                    write_packed(path, folder, settings=settings, config=config, encoder=encoder)
        except EngineError as error:
            refusal = error
    _meet(arguments, refusal)
    data = read_packed(work / "data")
    validation = read_packed(work / "validation") if settings.validation else None

    torch.manual_seed(settings.seed)
    base = load_for_training(source.folder, settings, arguments.device)
    encoder.require_fit(base.config.vocab_size)
    positions = takes_positions(base)
    model = add_lora(base, settings) if settings.method == "lora" else base
    stop = StopOnSignal()
    trainer = PackedTrainer(
        dtype=getattr(torch, settings.dtype),
        takes_positions=positions,
        model=model,
        args=arguments,
        data_collator=functools.partial(collate, pad_id=encoder.end_of_document),
        train_dataset=data.rows,
        eval_dataset=validation.rows if validation else None,
        optimizers=(make_optimizer(model, settings), None),
        callbacks=[stop, LossCurve(work)],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(TokenProgress())
    _set_schedule(arguments, settings, len(data.rows))
    last = last_state(work, processes=arguments.world_size)
    started = time.perf_counter()
    with stop:
        trainer.train(resume_from_checkpoint=last and str(last))
    state = trainer.state
    result = FinetuneResult(
        finished=state.global_step >= state.max_steps,
        steps=state.global_step,
        resumed_from=step_of(last) if last else 0,
        final_loss=_last(state.log_history, "loss"),
        validation_loss=_last(state.log_history, "eval_loss"),
        seconds=time.perf_counter() - started,
    )
    if result.finished and arguments.process_index == 0:
        write_checkpoint(
            settings.output,
            trainer.accelerator.unwrap_model(trainer.model),
            work=work,
            source=source.folder,
            base_name=settings.checkpoint,
            record=_record(settings, source, data, validation, result, arguments),
        )
        shutil.rmtree(work)
    _meet(arguments)
    return result


def training_arguments(settings: FinetuneSettings, work: Path) -> TrainingArguments:
    """The Trainer's arguments for `settings`.

    Raises:
        SettingsError: no such device, or the rows of a step cannot be dealt out.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device='cuda' is not there: this machine has no CUDA device")
    use_cpu = settings.device == "cpu" or not torch.cuda.is_available()
    if settings.dtype == "bfloat16" and not use_cpu and not torch.cuda.is_bf16_supported():
        raise SettingsError("dtype='bfloat16' is not possible: this GPU does not compute in bfloat16: use float32")
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun
    each = settings.rows_at_once * processes
    if settings.rows_per_step % each:
        raise SettingsError(
            f"rows_per_step={settings.rows_per_step} is not allowed: it must be a multiple of rows_at_once="
            f"{settings.rows_at_once} times {processes} processes"
        )
    arguments = TrainingArguments(
        output_dir=str(work),
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=use_cpu,
        bf16=settings.dtype == "bfloat16",
        per_device_train_batch_size=settings.rows_at_once,
        per_device_eval_batch_size=settings.rows_at_once,
        gradient_accumulation_steps=settings.rows_per_step // each,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="random" if settings.shuffle else "sequential",
        lr_scheduler_type="warmup_stable_decay",
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=settings.save_every,
        save_total_limit=2,
        eval_strategy="steps" if settings.validation else "no",
        eval_steps=settings.save_every,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if use_cpu and processes > 1 else None,
        dataloader_pin_memory=not use_cpu,
        report_to="none",
    )
    # With several GPUs and one process the Trainer would use nn.DataParallel, which averages losses by itself.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _meet(arguments: TrainingArguments, refusal: EngineError | None = None) -> None:
    """Wait for the other processes, if there are any; where one has a refusal, all of them stop.

    Raises:
        EngineError: `refusal`, or that another process has one.
    """
    if torch.distributed.is_initialized():
        refused = torch.tensor(int(refusal is not None), device=arguments.device)
        torch.distributed.all_reduce(refused, op=torch.distributed.ReduceOp.MAX)
        if refused and refusal is None:
            raise EngineError("the main process refused to train: see what it said")
    if refusal is not None:
        raise refusal


def _set_schedule(arguments: TrainingArguments, settings: FinetuneSettings, num_rows: int) -> None:
    """Warm-up and decay in steps, which are known only when the rows are."""
    steps = settings.max_steps or settings.epochs * -(-num_rows // settings.rows_per_step)
    warm_up = min(settings.warm_up_steps, steps // 10)
    decay = steps - warm_up if settings.decay_steps is None else min(settings.decay_steps, steps - warm_up)
    arguments.warmup_steps = warm_up
    arguments.lr_scheduler_kwargs = {
        "num_decay_steps": decay,
        "decay_type": "linear",
        "min_lr_ratio": settings.last_fraction,
    }


def _last(history: Sequence[Mapping[str, float]], key: str) -> float | None:
    return next((entry[key] for entry in reversed(history) if key in entry), None)


def _record(
    settings: FinetuneSettings,
    source: CheckpointSource,
    data: PackedData,
    validation: PackedData | None,
    result: FinetuneResult,
    arguments: TrainingArguments,
) -> dict[str, Any]:
    chosen = asdict(settings) | {"learning_rate": settings.peak_learning_rate}
    identity = identity_of(Path(arguments.output_dir))
    files = {"data": data} | ({"validation": validation} if validation else {})
    return {
        "base": {
            "source": source.name,
            "revision": source.revision,
            "weights_sha256": weights_sha256(source.folder),
        },
        "settings": json.loads(json.dumps(chosen, default=str)),
        **{
            name: {"sha256": identity[f"{name}_sha256"], **asdict(packed.counts), "rows": len(packed.rows)}
            for name, packed in files.items()
        },
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "final_loss": result.final_loss,
        "validation_loss": result.validation_loss,
        "seconds": round(result.seconds, 1),
        "processes": arguments.world_size,
        "device": str(arguments.device),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "peft", "datasets")},
    }

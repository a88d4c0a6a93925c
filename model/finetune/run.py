"""One training run from settings to a finished folder."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from datasets import Dataset, Features, List, Value
from transformers import ProgressCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from model.checkpoint.config_json import read_json
from model.checkpoint.fingerprint import file_sha256, weights_sha256
from model.checkpoint.source import CheckpointSource, resolve
from model.families.registry import family_class
from model.finetune.documents import DataError, read_documents
from model.finetune.encode import DocumentEncoder, EncodedDocument
from model.finetune.loss_curve import LossCurve
from model.finetune.optimizers import make_optimizer
from model.finetune.packing import collate, pack
from model.finetune.prepare_model import add_lora, load_for_training, takes_positions
from model.finetune.settings import FinetuneSettings, SettingsError
from model.finetune.trainer import PackedTrainer, StopOnSignal, TokenProgress
from model.finetune.write import write_checkpoint

ROW_FEATURES = Features(
    {"token_ids": List(Value("int32")), "weights": List(Value("float32")), "lengths": List(Value("int32"))}
)
NOT_PART_OF_THE_RESULT = ("output", "device", "log_every", "save_every")
"""Settings that may differ when a stopped run goes on."""


@dataclass(frozen=True)
class PackedData:
    """Rows, and how many documents and tokens are in them; `skipped`: documents left out, `truncated`: cut."""

    rows: Dataset
    documents: int
    tokens: int
    skipped: int
    truncated: int


@dataclass(frozen=True)
class FinetuneResult:
    """`finished` is false after Ctrl-C; then `steps` are saved and the same settings go on from there.

    Losses in nats a token; `None` where nothing was measured. `resumed_from`: step, 0 for a fresh start.
    """

    finished: bool
    steps: int
    resumed_from: int
    final_loss: float | None
    validation_loss: float | None
    seconds: float


def quiet() -> None:
    """Leave one progress bar: the training's."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def work_folder(output: Path) -> Path:
    """Where an unfinished run keeps its state."""
    return output.with_name(f"{output.name}.training")


def finetune(settings: FinetuneSettings) -> FinetuneResult:
    """Train, write `settings.output`, and clear the working folder away.

    With several processes (torchrun), all of them call this.

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
    if arguments.process_index == 0:
        _claim(work, settings, arguments.world_size)
        _pack_to_disk(settings, config, encoder, work)
    _meet()
    data = _read_packed(work / "data")
    validation = _read_packed(work / "validation") if settings.validation else None

    torch.manual_seed(settings.seed)
    base = load_for_training(source.folder, config, settings, arguments.device)
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
    last = get_last_checkpoint(str(work))
    resumed_from = int(last.rsplit("-", 1)[1]) if last else 0
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=last)
    seconds = time.perf_counter() - started
    steps = trainer.state.global_step
    if stop.stopped and steps < trainer.state.max_steps:
        return FinetuneResult(False, steps, resumed_from, None, None, seconds)
    validation_loss = trainer.evaluate()["eval_loss"] if validation else None
    final_loss = trainer.state.log_history and _last(trainer.state.log_history, "loss")
    result = FinetuneResult(True, steps, resumed_from, final_loss, validation_loss, seconds)
    if arguments.process_index == 0:
        record = _record(settings, source, data, result, arguments)
        unwrapped = trainer.accelerator.unwrap_model(trainer.model)
        write_checkpoint(
            settings.output, unwrapped, source=source.folder, base_name=settings.checkpoint, record=record, curve=work
        )
        shutil.rmtree(work)
    _meet()
    return result


def training_arguments(settings: FinetuneSettings, work: Path) -> TrainingArguments:
    """The Trainer's arguments for `settings`.

    Raises:
        SettingsError: no such device, or the rows of a step cannot be dealt out.
    """
    if settings.device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device={settings.device!r} is not allowed: use auto, cpu or cuda")
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


def _meet() -> None:
    """Wait for the other processes, if there are any."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


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


def _claim(work: Path, settings: FinetuneSettings, processes: int) -> None:
    """Make the working folder, or make sure that the one there belongs to this very run.

    Raises:
        SettingsError: it belongs to another.
    """
    identity = {key: value for key, value in asdict(settings).items() if key not in NOT_PART_OF_THE_RESULT}
    identity |= {"processes": processes, "data_sha256": _data_hash(settings.data)}
    if settings.validation:
        identity["validation_sha256"] = _data_hash(settings.validation)
    identity = json.loads(json.dumps(identity, default=str))
    path = work / "settings.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in identity.keys() | before.keys() if identity.get(key) != before.get(key))
        if changed:
            raise SettingsError(
                f"{work} holds an unfinished run with another {' and '.join(changed)}: remove that folder, or give the "
                "same settings to go on"
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")


def _data_hash(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path} is not there: check the path")
    return file_sha256(path)


def _pack_to_disk(settings: FinetuneSettings, config: dict[str, Any], encoder: DocumentEncoder, work: Path) -> None:
    for name, path in (("data", settings.data), ("validation", settings.validation)):
        folder = work / name
        if path is None or (folder / "counts.json").is_file():
            continue
        counts = {"documents": 0, "tokens": 0, "skipped": 0, "truncated": 0}

        def rows(path: Path = path, counts: dict[str, int] = counts) -> Iterator[dict[str, Any]]:
            encoded = _encoded(settings, config, encoder, path, counts)
            return (asdict(row) for row in pack(encoded, settings.row_length))

        table = {key: [] for key in ROW_FEATURES}  # type: dict[str, list[Any]]
        for row in rows():
            for key, value in row.items():
                table[key].append(value)
        if not table["token_ids"]:
            raise DataError(f"{path} has no document that fits into row_length={settings.row_length}: raise it")
        Dataset.from_dict(table, features=ROW_FEATURES).save_to_disk(str(folder))
        (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def _encoded(
    settings: FinetuneSettings, config: dict[str, Any], encoder: DocumentEncoder, path: Path, counts: dict[str, int]
) -> Iterator[EncodedDocument]:
    """Documents of a file as tokens, none longer than a row; counts what happens to them."""
    template = family_class(config).chat_template
    documents = read_documents(path, template, data_format=settings.data_format, prompt_weight=settings.prompt_weight)
    for number, document in enumerate(documents, start=1):
        encoded = encoder.encode(document)
        size = len(encoded.token_ids)
        if size > settings.row_length:
            if settings.too_long == "refuse":
                raise DataError(
                    f"{path}, document {number} has {size:,} tokens but a row only {settings.row_length:,}: raise "
                    "row_length, or choose too_long=skip or truncate"
                )
            if settings.too_long == "skip":
                counts["skipped"] += 1
                continue
            counts["truncated"] += 1
            encoded = EncodedDocument(encoded.token_ids[: settings.row_length], encoded.weights[: settings.row_length])
        counts["documents"] += 1
        counts["tokens"] += len(encoded.token_ids)
        yield encoded


def _read_packed(folder: Path) -> PackedData:
    counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    return PackedData(Dataset.load_from_disk(str(folder)), **counts)


def _last(history: list[dict[str, float]], key: str) -> float | None:
    return next((entry[key] for entry in reversed(history) if key in entry), None)


def _record(
    settings: FinetuneSettings,
    source: CheckpointSource,
    data: PackedData,
    result: FinetuneResult,
    arguments: TrainingArguments,
) -> dict[str, Any]:
    chosen = asdict(settings) | {"learning_rate": settings.peak_learning_rate}
    return {
        "base": {
            "source": source.name,
            "revision": source.revision,
            "weights_sha256": weights_sha256(source.folder),
        },
        "settings": json.loads(json.dumps(chosen, default=str)),
        "data": {
            "sha256": _data_hash(settings.data),
            "documents": data.documents,
            "skipped": data.skipped,
            "truncated": data.truncated,
            "tokens": data.tokens,
            "rows": len(data.rows),
        },
        "steps": result.steps,
        "final_loss": result.final_loss,
        "validation_loss": result.validation_loss,
        "seconds": round(result.seconds, 1),
        "processes": arguments.world_size,
        "device": str(arguments.device),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "peft", "datasets")},
    }

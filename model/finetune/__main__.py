"""Command line of fine-tuning: `python -m model.finetune --help`; of classification heads: `... classify --help`.

Several GPUs: `torchrun --nproc-per-node N -m model.finetune ...`.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from model.finetune.settings import CHOICES, FinetuneSettings, SettingsError
from model.interface import EngineError

HELP = {
    "checkpoint": "folder in Hugging Face's layout, or Hub id",
    "data": "examples, .jsonl or .csv: prompt and answer, messages, text, or spans",
    "output": "folder to write",
    "revision": "Hub branch, tag or commit",
    "validation": "examples to measure the loss on, not trained on",
    "method": "low-rank additions, or all weights",
    "dtype": "of the computation",
    "data_format": "prompt and answer as a conversation of the family, or as they stand",
    "prompt_weight": "what a token of a prompt counts in the loss; one of an answer counts 1",
    "row_length": "tokens in a packed row",
    "too_long": "what to do with an example longer than a row",
    "rows_per_step": "rows in a step of the optimizer, over all processes",
    "rows_at_once": "rows a process computes together",
    "epochs": "times the data is gone through",
    "max_steps": "end after these steps",
    "shuffle": "shuffle the rows in every epoch",
    "optimizer": "adafactor needs half of adamw's memory; muon: for the layers' matrices, adamw for the rest",
    "learning_rate": "peak; default 2e-4 for lora, 1e-5 for full",
    "matrix_learning_rate": "Muon's peak",
    "learning_rate_of": "another peak for parameters whose name has this part; may be repeated",
    "weight_decay": "of matrices",
    "warm_up_steps": "linear from nothing",
    "decay_steps": "linear to last-fraction of the peak; default: all steps after the warm-up",
    "last_fraction": "see decay-steps",
    "max_grad_norm": "longer gradients are shortened to this",
    "lora_rank": "columns of the low-rank matrices",
    "lora_alpha": "their scale times the rank",
    "lora_dropout": "dropout before them",
    "gradient_checkpointing": "compute activations twice instead of keeping them",
    "device": "auto, cpu or cuda",
    "seed": "of LoRA's first weights and of the shuffling",
    "log_every": "steps between rows of the loss curve",
    "save_every": "steps between saved states",
}


def build_parser() -> argparse.ArgumentParser:
    """One option for every setting."""
    parser = argparse.ArgumentParser(
        prog="python -m model.finetune",
        allow_abbrev=False,
        description="Train a checkpoint further. An interrupted run goes on when the same command is given again. "
        "`python -m model.finetune classify --help`: train a classification head.",
    )
    for field in dataclasses.fields(FinetuneSettings):
        if field.name == "learning_rate_of":
            parser.add_argument(
                "--learning-rate-of", action="append", default=[], metavar="PART=RATE", help=HELP[field.name]
            )
            continue
        flag = "--" + field.name.replace("_", "-")
        if field.type == "bool":
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=field.default, help=HELP[field.name]
            )
            continue
        kind = {"Path": Path, "int": int, "float": float, "str": str}[field.type.removesuffix(" | None")]
        required = field.default is dataclasses.MISSING
        default = None if required else field.default
        # The settings say what is wrong with a choice, and why (float16).
        metavar = f"{{{','.join(CHOICES[field.name])}}}" if field.name in CHOICES else None
        shown = f" (default {default})" if default is not None else ""
        parser.add_argument(
            flag, type=kind, default=default, required=required, metavar=metavar, help=f"{HELP[field.name]}{shown}"
        )
    return parser


def _rates(pairs: Sequence[str]) -> dict[str, float]:
    rates = {}
    for pair in pairs:
        part, _, rate = pair.rpartition("=")
        try:
            rates[part] = float(rate)
        except ValueError:
            part = ""
        if not part:
            raise SettingsError(f"learning_rate_of={pair!r} is not allowed: write PART=RATE, such as lm_head=1e-4")
    return rates


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when the checkpoint is written, 1 after an error, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["classify"]:
        from model.finetune.classify import command

        return command.main(arguments[1:])
    options = build_parser().parse_args(arguments)
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.WARNING)
    try:
        settings = FinetuneSettings(**vars(options) | {"learning_rate_of": _rates(options.learning_rate_of)})
        # Here, since it imports torch and transformers: wrong options and --help must not wait for that.
        from model.finetune.run import finetune, quiet

        quiet()
        result = finetune(settings)
    except EngineError as error:
        if main_process:
            sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:  # before or after the training itself, which stops in order
        if main_process:
            sys.stderr.write("interrupted: the same command goes on from what is saved\n")
        return 130
    if not main_process:
        return 0 if result.finished else 130
    if not result.finished:
        sys.stderr.write(f"interrupted: {result.steps} steps are saved; the same command goes on from there\n")
        return 130
    validation = "" if result.validation_loss is None else f", validation loss {result.validation_loss:.4f}"
    sys.stdout.write(
        f"{settings.output}: {result.steps} steps in {result.seconds / 60:.1f} min, last loss {result.final_loss:.4f}"
        f"{validation}\ntry it: python -m app --checkpoint {settings.output}\n"
    )
    return 0


def leave_the_others() -> None:
    """End the connection of processes that trained together. Where that is left to the interpreter's end, a thread of
    torch's may abort a process whose work is done, and torchrun calls the training failed."""
    if "torch" in sys.modules:
        import torch

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    status = main()
    leave_the_others()
    sys.exit(status)

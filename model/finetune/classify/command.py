"""Command line of classification heads: `python -m model.finetune classify --help`."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm  # type: ignore[import-untyped]

from model.finetune.classify.settings import CHOICES, ClassifySettings
from model.interface import EngineError

if TYPE_CHECKING:
    from model.finetune.classify.run import Progress, TrainedHead

HELP = {
    "model": "the base: folder in Hugging Face's layout, or Hub id",
    "data": "labelled texts, .csv or .jsonl",
    "output": "folder to write",
    "revision": "Hub branch, tag or commit",
    "name": "of the head; default: the output folder's",
    "method": "a matrix on the frozen base's hidden states, or low-rank additions to its layers too",
    "whole": "write the base's weights too, so that the folder is a checkpoint here and in transformers",
    "test": "labelled texts to measure on; default: test-share of the data",
    "text_column": "name of the column with the texts",
    "label_column": "name of the column with the labels",
    "bad_rows": "refuse the file, or skip them and list them",
    "validation_share": "of each label's texts, to stop by",
    "test_share": "of each label's texts, to measure on",
    "class_weights": "every label counts the same, or every text does",
    "patience": "steps or epochs without a lower validation loss before training stops",
    "dtype": "of the computation; auto: the device's usual one, for lora bfloat16",
    "device": "auto, cpu or cuda",
    "seed": "of the split and of LoRA",
    "epochs": "lora: most times the texts are gone through",
    "rows_per_step": "lora: texts in a step of the optimizer",
    "rows_at_once": "lora: texts computed together",
    "learning_rate": "lora: peak",
    "lora_rank": "lora: columns of the low-rank matrices",
    "lora_alpha": "lora: their scale times the rank",
    "cache": "folder for hidden states",
}


def build_parser() -> argparse.ArgumentParser:
    """One option for every setting."""
    parser = argparse.ArgumentParser(
        prog="python -m model.finetune classify",
        allow_abbrev=False,
        description="Train a classification head on labelled texts and measure it beside two baselines.",
    )
    for field in dataclasses.fields(ClassifySettings):
        flag = "--" + field.name.replace("_", "-")
        if field.type == "bool":
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=field.default, help=HELP[field.name]
            )
            continue
        kind = {"Path": Path, "int": int, "float": float, "str": str}[field.type.removesuffix(" | None")]
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        required = default is dataclasses.MISSING
        # The settings say what is wrong with a choice, and why (float16).
        metavar = f"{{{','.join(CHOICES[field.name])}}}" if field.name in CHOICES else None
        shown = "" if required or default is None else f" (default {default})"
        parser.add_argument(
            flag,
            type=kind,
            default=None if required else default,
            required=required,
            metavar=metavar,
            help=f"{HELP[field.name]}{shown}".replace("%", "%%"),
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when the folder is written, 1 after an error, 130 when interrupted."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    bar = ProgressBar()
    try:
        settings = ClassifySettings(**vars(options))
        # Here, since it imports torch and scikit-learn: wrong options and --help must not wait for that.
        import transformers

        from model.finetune.classify.run import train_head
        from model.finetune.run import quiet

        quiet()
        transformers.utils.logging.set_verbosity_error()  # a base has no head yet, which is no news
        trained = train_head(settings, on_progress=bar.show)
    except EngineError as error:
        bar.close()
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        bar.close()
        sys.stderr.write("interrupted: nothing was written; hidden states that were computed are kept\n")
        return 130
    bar.close()
    sys.stdout.write("\n".join(lines(trained, settings)) + "\n")
    return 0


class ProgressBar:
    """One bar a stage, where there is a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def show(self, progress: Progress) -> None:
        """Move on to where it says."""
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
            self._bar = tqdm(desc=progress.stage, total=progress.total, disable=None)
        if self._bar is not None:
            self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def lines(trained: TrainedHead, settings: ClassifySettings) -> Iterator[str]:
    """What came out, as text."""
    from model.finetune.classify.write import figure

    for path, problems in trained.skipped.items():
        yield from (f"skipped {path}, {problem}" for problem in problems)
    parts = (trained.split.train, trained.split.validation, trained.split.test)
    counts = ", ".join(str(len(part.texts)) for part in parts)
    yield f"{trained.folder}: {len(trained.split.labels)} labels; texts for training, validation, test: {counts}"
    rows = [
        (title, figure(one.accuracy), figure(one.macro_f1))
        for title, one in ((trained.info.name, trained.measured), *trained.baselines.items())
    ]
    yield from _table(("test texts, % (95 % interval)", "accuracy", "macro-F1"), rows)
    of_labels = [
        (one.label, figure(one.precision), figure(one.recall), figure(one.f1), str(one.support))
        for one in trained.measured.labels
    ]
    yield from _table(("label", "precision", "recall", "F1", "texts"), of_labels)
    assert trained.measured.calibration is not None
    yield f"expected calibration error {trained.measured.calibration.error:.3f}"
    if settings.whole:
        yield f"try it: python -m app --checkpoint {trained.folder}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *others])

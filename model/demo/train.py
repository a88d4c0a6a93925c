"""Train a bundled demonstration checkpoint from random weights on a CPU, with `model.finetune`.

    python -m model.demo.train --family persimmon      # the shipped checkpoint, well under an hour on two cores
    python -m model.demo.train --family mpt --steps 100 --output trial/mpt-demo

What is written here is what fine-tuning starts from: a checkpoint folder with random weights, and a corpus. The same
seed gives the same folder and corpus byte for byte; the last bits of the trained weights may differ from one processor
to another. A run that was stopped goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from model.demo.bundle import install_bundle
from model.demo.family import FAMILIES, DemoFamily, write_initial_checkpoint

FOLDER: Final = Path(__file__).parent
ROWS: Final = 16
ROW_LENGTH: Final = 320
TOKENS_A_DOCUMENT: Final = 70
"""Less than the mean over the whole corpus, 74 or more according to the family: with it the corpus is large enough, and
no step sees the easy beginning a second time."""
WORKERS: Final = 2
"""Processes of one thread each, a share of the rows for each: they meet once a step instead of in every operation,
so that another program on the machine holds them up once a step and not hundreds of times."""
SETTINGS: Final = {
    "method": "full",
    "optimizer": "muon",
    "row-length": ROW_LENGTH,
    "too-long": "skip",
    "rows-per-step": ROWS,
    "rows-at-once": ROWS // WORKERS,
    "epochs": 1,
    "learning-rate": 3e-3,
    "weight-decay": 0.05,
    "warm-up-steps": 60,
    "decay-steps": 600,
    "last-fraction": 0.02,
    "max-grad-norm": 1.0,
    "log-every": 25,
    "save-every": 100,
    "device": "cpu",
}
QK_NORM_LEARNING_RATE: Final = 1e-2
"""The norms on q and k bound how sharply a head can attend, and looking at the previous token needs a sharp one: with
gains starting at 1 and learning slowly, nothing was copied from the context in the first 450 steps."""


def prepare(family: DemoFamily, work: Path, *, seed: int, steps: int) -> None:
    """Write the random checkpoint and the corpus into ``work``, unless they are there."""
    ready = work / "prepared.json"
    wanted = json.dumps({"seed": seed, "steps": steps})
    if ready.is_file() and ready.read_text() == wanted:
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_initial_checkpoint(family, work / "initial", seed)
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as stream:
        for document in itertools.islice(family.documents(seed), steps * ROWS * ROW_LENGTH // TOKENS_A_DOCUMENT):
            # The last span is the end of a document, which fine-tuning adds.
            spans = [[span.text, span.weight] for span in document[:-1]]
            stream.write(json.dumps({"spans": spans}) + "\n")
    ready.write_text(wanted)


def command(work: Path, *, seed: int, steps: int, matrix_learning_rate: float) -> list[str]:
    """The fine-tuning command, as a user would give it."""
    options = {
        "checkpoint": work / "initial",
        "data": work / "corpus.jsonl",
        "output": work / "trained",
        "seed": seed,
        "max-steps": steps,
        "matrix-learning-rate": matrix_learning_rate,
        **SETTINGS,
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}"]
    chosen = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    rates = [f"--learning-rate-of={part}={QK_NORM_LEARNING_RATE}" for part in (".q_layernorm.", ".k_layernorm.")]
    return [*launcher, "-m", "model.finetune", *chosen, *rates, "--no-shuffle", "--no-gradient-checkpointing"]


def write_training_record(finetune: Path, destination: Path) -> None:
    """Copy what fine-tuning says of the run, with the names of its files but not where this machine keeps them."""
    record = json.loads(finetune.read_text(encoding="utf-8"))
    record["base"]["source"] = Path(record["base"]["source"]).name
    for name in ("checkpoint", "data", "output"):
        record["settings"][name] = Path(record["settings"][name]).name
    destination.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train, install the folder."""
    parser = argparse.ArgumentParser(description="Train a bundled checkpoint from random weights on a CPU.")
    parser.add_argument("--family", choices=FAMILIES, required=True, help="which of the bundled checkpoints")
    parser.add_argument("--output", type=Path, help="checkpoint folder to write; default: the bundled one")
    parser.add_argument("--seed", type=int, default=0, help="seed of corpus, vocabulary and weights")
    parser.add_argument("--steps", type=int, help="optimizer steps; default: the family's")
    chosen = parser.parse_args(arguments)
    family = FAMILIES[chosen.family]
    output: Path = chosen.output or FOLDER / family.name
    work = output.with_name(f"{output.name}.work")
    steps = chosen.steps or family.curriculum.steps
    prepare(family, work, seed=chosen.seed, steps=steps)
    rate = family.curriculum.matrix_learning_rate
    code = subprocess.run(
        command(work, seed=chosen.seed, steps=steps, matrix_learning_rate=rate), check=False
    ).returncode
    if code:
        return code
    size = install_bundle(work / "trained", output)
    family.write_card(output)  # in place of the one that fine-tuning writes
    write_training_record(work / "trained" / "finetune.json", output.with_name(f"{output.name}.training.json"))
    shutil.copyfile(work / "trained" / "loss.csv", output.with_name(f"{output.name}.loss.csv"))
    shutil.rmtree(work)
    sys.stdout.write(f"{output}: {size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

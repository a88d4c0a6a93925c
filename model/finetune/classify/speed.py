"""Rows a second: our engine against Hugging Face's text-classification pipeline, on the same checkpoint in one run.

    python -m model.finetune.classify.speed       # into results/bench/classification.md and .json; a few minutes

The checkpoint is persimmon-demo with its bundled sentiment head as a whole `PersimmonForSequenceClassification`, in
float32 on the CPU. Before anything is timed both sides must give the same probabilities. The pipeline is run as it is
without options (one text at a time), and with the fastest of several batch sizes. The sides take turns, each in a
process of its own: in one, the threads that the other's products left behind would take cores from it.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import functools
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from model.checkpoint.head import DESCRIPTION, TENSOR, WEIGHTS
from model.demo.sentiment import FOLDER, reviews
from model.finetune.classify.write import write_whole_probe
from model.interface import Engine, EngineError
from model.open_engine import open_engine
from model.parity.setting import setting

BASE = FOLDER / "persimmon-demo"
RESULTS = Path(__file__).resolve().parents[3] / "results" / "bench"
BATCH_SIZES = (1, 8, 32, 64)
ROUNDS = 3
TOLERANCE = 1e-4  # of a probability
MOST_SENTENCES = 12
EXAMPLES = 8
"""Solved reviews in the instruction that stands before each text of the last workload."""

AGREEING = 64  # texts whose answers are compared before anything is timed
WARM_UP = ["Warming up."] * 8
KV_CACHE_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class Work:
    """Texts to classify, and what they are like."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Rows a second in each round; `batch_size` is the fastest one of the pipeline's.

    `mean_tokens`, `longest`: of the texts.
    """

    name: str
    rows: int
    mean_tokens: float
    longest: int
    ours: tuple[float, ...]
    pipeline: tuple[float, ...]
    batched: tuple[float, ...]
    batch_size: int

    @property
    def ratio(self) -> float:
        """Ours over the pipeline without options, medians."""
        return statistics.median(self.ours) / statistics.median(self.pipeline)

    @property
    def batched_ratio(self) -> float:
        """Ours over the pipeline at its fastest, medians."""
        return statistics.median(self.ours) / statistics.median(self.batched)


def works(rows: int) -> list[Work]:
    """The workloads, of at most so many texts; the same for everybody."""
    draw = random.Random(0)
    sentences = [review.text for review in reviews()]
    draw.shuffle(sentences)
    mixed = [" ".join(draw.sample(sentences, draw.randint(1, MOST_SENTENCES))) for _ in range(rows // 3)]
    solved = [review for review in reviews() if not review.held_out]
    instruction = "Is the review positive or negative?\n" + "".join(
        f"Review: {one.text}\nAnswer: {one.sentiment}\n" for one in draw.sample(solved, EXAMPLES)
    )
    return [
        Work("one sentence", tuple(sentences[:rows])),
        Work(f"1 to {MOST_SENTENCES} sentences", tuple(mixed)),
        Work(
            f"one sentence after the same instruction with {EXAMPLES} solved examples",
            tuple(f"{instruction}Review: {sentence}" for sentence in sentences[: rows // 3]),
        ),
    ]


def write_classifier(folder: Path) -> None:
    """The base and its bundled head as one checkpoint."""
    source = BASE / "heads" / "sentiment"
    labels = json.loads((source / DESCRIPTION).read_text(encoding="utf-8"))["labels"]
    write_whole_probe(folder, BASE, load_file(source / WEIGHTS)[TENSOR], labels)


def compare(folder: Path, work: Work, *, rounds: int) -> Speed:
    """Check that both sides agree, find the pipeline's fastest batch size, then time all in turn.

    Our engine is opened anew for every round, so that its prefix cache knows nothing of the texts. Before the first,
    both sides have seen all texts once, so that the products for their lengths are compiled.

    Raises:
        EngineError: the sides do not agree.
    """
    pipeline: Any = transformers.pipeline("text-classification", model=str(folder), dtype=torch.float32, device="cpu")
    texts = list(work.texts)
    _refuse_other_answers(folder, pipeline, texts[:AGREEING], work.name)
    tried = {size: _seconds(functools.partial(pipeline, texts, batch_size=size)) for size in BATCH_SIZES}
    fastest = min(tried, key=tried.__getitem__)
    ours, alone, batched = [], [], []
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        process.submit(_our_rate, folder, texts).result()
        for _ in range(rounds):
            ours.append(process.submit(_our_rate, folder, texts).result())
            alone.append(len(texts) / _seconds(functools.partial(pipeline, texts)))
            batched.append(len(texts) / _seconds(functools.partial(pipeline, texts, batch_size=fastest)))
    lengths = [len(pipeline.tokenizer(text)["input_ids"]) for text in texts]
    return Speed(
        name=work.name,
        rows=len(texts),
        mean_tokens=statistics.mean(lengths),
        longest=max(lengths),
        ours=tuple(ours),
        pipeline=tuple(alone),
        batched=tuple(batched),
        batch_size=fastest,
    )


def render(speeds: Sequence[Speed], machine: Mapping[str, str], *, threads: int, rounds: int) -> str:
    """The page."""
    lines = [
        f"| {one.name} | {one.rows:,} | {one.mean_tokens:.0f} ({one.longest}) | {_rate(one.ours)} | "
        f"{_rate(one.pipeline)} | {one.ratio:.1f} | {_rate(one.batched)} ({one.batch_size}) | {one.batched_ratio:.1f} |"
        for one in speeds
    ]
    head = (
        "| texts | rows | tokens, mean (longest) | ours, rows/s | pipeline, rows/s | ours / pipeline | "
        "pipeline at its fastest (batch size), rows/s | ours / fastest |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    )
    about = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return (
        "# Classification on a CPU\n\nWritten by `python -m model.finetune.classify.speed` from "
        "`classification.json`; change nothing here by hand.\n\n"
        "Rows a second of a `PersimmonForSequenceClassification` (persimmon-demo with its bundled sentiment head, "
        f"float32), torch threads on both sides: {threads}. **pipeline** is Hugging Face's `text-classification` as "
        "it is without options, one text at a time; **at its fastest** with the best of the batch sizes "
        f"{', '.join(map(str, BATCH_SIZES))}. Medians of {rounds} rounds in which the sides take turns (lowest to "
        f"highest), each in a process of its own; first the probabilities of {AGREEING} texts must agree within "
        f"{TOLERANCE:.0e}. Tokenizing is timed on both sides, loading on neither; the prefix cache is empty before "
        "each round, and what texts of one round share is computed once by ours.\n\n"
        + head
        + "\n".join(lines)
        + f"\n\n## Computed with\n\n{about}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the page is written, 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m model.finetune.classify.speed", description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="texts of the first workload (default: 1000)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"timed runs of each side (default: {ROUNDS})")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder (default: results/bench)")
    options = parser.parse_args(arguments)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    load = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "sentiment"
            write_classifier(folder)
            speeds = [compare(folder, work, rounds=options.rounds) for work in works(options.rows)]
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    machine = setting() | {"load average when it began": f"{load:.1f}"}  # above the threads: others were at work
    threads = torch.get_num_threads()
    page = render(speeds, machine, threads=threads, rounds=options.rounds)
    options.output.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine, "threads": threads, "rounds": options.rounds, "speeds": [asdict(one) for one in speeds]}
    (options.output / "classification.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (options.output / "classification.md").write_text(page, encoding="utf-8")
    sys.stdout.write(page)
    return 0


def _open(folder: Path) -> Engine:
    return open_engine(str(folder), device="cpu", dtype="float32", kv_cache_tokens=KV_CACHE_TOKENS)


def _our_rate(folder: Path, texts: Sequence[str]) -> float:
    """Rows a second of an engine that has seen none of the texts."""
    engine = _open(folder)
    try:
        engine.classify(WARM_UP)
        return len(texts) / _seconds(functools.partial(engine.classify, texts))
    finally:
        engine.close()


def _refuse_other_answers(folder: Path, pipeline: Any, texts: list[str], name: str) -> None:
    engine = _open(folder)
    try:
        (head,) = engine.heads.values()
        ours = head.scores(np.stack(engine.classify(texts)))
    finally:
        engine.close()
    answers = [{one["label"]: one["score"] for one in answer} for answer in pipeline(texts, top_k=None)]
    theirs = np.array([[answer[label] for label in head.labels] for answer in answers])
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise EngineError(f"{name}: probabilities differ by {difference:.0e}, so nothing was timed")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _rate(rounds: Sequence[float]) -> str:
    return f"{statistics.median(rounds):,.0f} ({min(rounds):,.0f} to {max(rounds):,.0f})"


if __name__ == "__main__":
    sys.exit(main())

"""One measurement: the gate, the peers' fastest settings, then all sides in turn."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.bench import gate, hugging_face, lm_eval_hf, ours
from evals.bench.beside import Beside
from evals.bench.checkpoints import shape
from evals.bench.limits import limit
from evals.bench.processes import Alone
from evals.bench.results import Better, Limit, Measurement, Memory, Roofs, Trial, ratio, rounded, series
from evals.bench.runs import Run
from evals.bench.settings import Choices, Setting
from evals.bench.vllm_cpu import VllmCpu
from evals.bench.workloads import DecodeWork, Work

logger = logging.getLogger(__name__)

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What to measure on which checkpoint.

    Attributes:
        name, checkpoint, description: for the page. folder: the checkpoint's.
        unit, better, bar, aim: as in `results.Measurement`.
        of_memory: whether the figure is the memory the work takes, not its speed.
        choices: settings of the peer.
    """

    name: str
    checkpoint: str
    description: str
    folder: Path
    context_length: int
    work: Work
    unit: str
    better: Better
    bar: float
    aim: float
    choices: Choices
    of_memory: bool = False
    notes: tuple[str, ...] = ()


def measure(task: Task, *, rounds: int, roofs: Roofs, alone: Alone, vllm: VllmCpu | None = None) -> Measurement:
    """Do all of it.

    Args:
        rounds: timed runs of each side; one more of each comes first, for the gate.
        vllm: the second peer, if there is one.

    Raises:
        ResultsDiffer: both sides did not give the same.
        EvaluationError: a run failed.
    """
    peer: Any = hugging_face if isinstance(task.work, DecodeWork) else lm_eval_hf
    checkpoint = str(task.folder)
    start = task.choices.start()
    first, _, num_ties = _round(task, peer, start, alone, name="gate")
    tried: dict[Setting, float] = {}
    if len(task.choices.batch_sizes) * len(task.choices.attentions) * len(task.choices.orders) > 1:
        tried = alone(peer.tried, checkpoint, task.work, task.choices)
    setting = min(tried, key=tried.__getitem__, default=start)
    beside = None
    if vllm is not None:
        beside = Beside(vllm, folder=task.folder, context_length=task.context_length, work=task.work, alone=alone)
        beside.try_settings(first)
    mine: list[Run] = []
    others: list[Run] = []
    for number in range(1, rounds + 1):
        run, other, ties = _round(task, peer, setting, alone, name=f"round {number} of {rounds}")
        mine.append(run)
        others.append(other)
        num_ties = max(num_ties, ties)
        if beside is not None:
            beside.round(run)
    figures, peer_figures = (series([_figure(task, run) for run in runs]) for runs in (mine, others))
    return Measurement(
        name=task.name,
        checkpoint=task.checkpoint,
        work=task.description,
        peer=peer.NAME,
        unit=task.unit,
        better=task.better,
        ours=figures,
        peer_runs=peer_figures,
        ratio=ratio(figures.median, peer_figures.median, better=task.better),
        bar=task.bar,
        aim=task.aim,
        num_ties=num_ties,
        ours_memory=_highest(mine),
        peer_memory=_highest(others),
        setting=str(setting),
        trials=tuple(Trial(setting=str(one), seconds=rounded(seconds)) for one, seconds in tried.items()),
        limit=None if task.of_memory else _limit(task, mine[0], roofs),
        units=None if task.of_memory else task.work.units,
        notes=task.notes,
        second=None
        if beside is None
        else beside.outcome(lambda one: _figure(task, one), ours=figures.median, better=task.better),
    )


def _round(task: Task, peer: Any, setting: Setting, alone: Alone, *, name: str) -> tuple[Run, Run, int]:
    """One run of each side, and the answers that part at a tie; refuses results that differ."""
    checkpoint = str(task.folder)
    run, other = alone(ours.run, checkpoint, task.work), alone(peer.run, checkpoint, task.work, setting)
    ties = gate.check(
        alone, checkpoint, task.work, ours=run.answers, peer=other.answers, context_length=task.context_length
    )
    logger.info(
        "%s/%s: %s, ours %.2f s, %s %.2f s (%s)",
        task.checkpoint,
        task.name,
        name,
        run.seconds,
        peer.NAME,
        other.seconds,
        setting,
    )
    return run, other, ties


def _figure(task: Task, run: Run) -> float:
    if task.of_memory:
        # A page is the least that can be measured.
        return max(run.memory.extra_bytes, 4096) / MEBIBYTE
    return task.work.units / run.seconds


def _highest(runs: list[Run]) -> Memory:
    return max((run.memory for run in runs), key=lambda memory: memory.peak_bytes)


def _limit(task: Task, run: Run, roofs: Roofs) -> Limit:
    lengths = [len(token_ids) for token_ids in run.answers.token_ids]
    return limit(task.work, shape(task.folder), roofs, answer_lengths=lengths)

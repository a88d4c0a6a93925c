"""vLLM's side of one measurement: its settings, its rounds, and why there is no figure where there is none.

What goes wrong here is written down and refuses nothing: the measurement is the one against Hugging Face.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evals.bench import gate
from evals.bench.processes import Alone
from evals.bench.results import Better, ResultsDiffer, SecondPeer, Trial, ratio, rounded, series
from evals.bench.runs import Run
from evals.bench.settings import VllmSetting
from evals.bench.vllm_cpu import VllmCpu
from evals.bench.workloads import DecodeWork, Work
from evals.errors import EvaluationError

logger = logging.getLogger(__name__)


class Beside:
    """The second peer of one measurement.

    Args:
        folder, context_length, work: as in `measure.Task`.
        alone: for Hugging Face as the judge of answers that differ.
    """

    def __init__(self, vllm: VllmCpu, *, folder: Path, context_length: int, work: Work, alone: Alone) -> None:
        self._vllm = vllm
        self._folder = folder
        self._context_length = context_length
        self._work = work
        self._alone = alone
        self._setting: VllmSetting | None = None  # the fastest, while its results are the same
        self._tried: dict[VllmSetting, float] = {}
        self._problems: dict[VllmSetting, str] = {}
        self._runs: list[Run] = []
        self._num_ties = 0

    def try_settings(self, ours: Run) -> None:
        """Run one choice after the other: compiled or not, then how prefixes are shared, where they may be common.

        A setting whose results are not those of `ours` is none.
        """
        for compiled in (True, False):
            self._try(VllmSetting(compiled=compiled), ours)
        if self._setting is not None and not isinstance(self._work, DecodeWork):
            self._try(replace(self._setting, sharing=True), ours)

    def _try(self, setting: VllmSetting, ours: Run) -> None:
        run = self._same(setting, ours)
        if run is not None:
            self._tried[setting] = run.seconds
            self._setting = min(self._tried, key=self._tried.__getitem__)

    def round(self, ours: Run) -> None:
        """One more run at the fastest setting, if there is one; one that fails takes the figure away."""
        if self._setting is None:
            return
        run = self._same(self._setting, ours)
        if run is None:
            self._setting = None
        else:
            self._runs.append(run)

    def outcome(self, figure: Callable[[Run], float], *, ours: float, better: Better) -> SecondPeer:
        """What is written down.

        Args:
            figure: of a run, in the measurement's unit. ours: its median. better: which way.
        """
        measured = self._setting is not None
        figures = series([figure(run) for run in self._runs]) if measured else None
        return SecondPeer(
            name=self._vllm.name,
            runs=figures,
            ratio=None if figures is None else ratio(ours, figures.median, better=better),
            memory=max((run.memory for run in self._runs), key=lambda memory: memory.peak_bytes) if measured else None,
            setting=str(self._setting) if measured else "",
            trials=tuple(Trial(setting=str(one), seconds=rounded(seconds)) for one, seconds in self._tried.items()),
            num_ties=self._num_ties if measured else 0,
            problems=tuple(f"{one}: {problem}" for one, problem in self._problems.items()),
        )

    def _same(self, setting: VllmSetting, ours: Run) -> Run | None:
        """A run with the same results; else `None`, and the problem is kept."""
        try:
            run = self._vllm.run(self._folder, self._work, setting, context_length=self._context_length)
            logger.info("%s %.2f s (%s)", self._vllm.name, run.seconds, setting)
            ties = gate.check(
                self._alone,
                str(self._folder),
                self._work,
                ours=ours.answers,
                peer=run.answers,
                context_length=self._context_length,
                peer_name="vLLM",
                judge_peer=True,
            )
        except ResultsDiffer as error:
            problem = f"results differ: {error}"
        except EvaluationError as error:
            problem = str(error)
        else:
            self._num_ties = max(self._num_ties, ties)
            return run
        logger.error("%s (%s): %s", self._vllm.name, setting, problem)
        self._problems[setting] = problem
        return None

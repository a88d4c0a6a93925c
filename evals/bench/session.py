"""A whole benchmark run: checkpoints, roofs, all measurements, and what is kept of an earlier run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from evals.bench import gap, roofs
from evals.bench.checkpoints import BUNDLED, RandomPersimmon, cached, shape, write
from evals.bench.limits import step_bytes
from evals.bench.machine import describe
from evals.bench.measure import measure
from evals.bench.processes import Alone
from evals.bench.results import (
    DATA,
    SCHEMA,
    GapMeasurement,
    Measurement,
    Refusal,
    Report,
    Roofs,
    read_report,
)
from evals.bench.suite import BUNDLED_NAME, GAP, SPEED_NAMES, Sizes, Slot, choose, slots, task
from evals.bench.vllm_cpu import VllmCpu
from evals.errors import EvaluationError
from evals.provenance import git_state
from evals.run import data_source

logger = logging.getLogger(__name__)

QUICK_ROOFS = {"num_bytes": 2**24, "matrix_size": 256}


class _HasKey(Protocol):
    @property
    def key(self) -> str: ...


_Keyed = TypeVar("_Keyed", bound=_HasKey)


def bench(
    sizes: Sizes,
    *,
    only: Sequence[str],
    threads: int,
    data: str,
    output: Path,
    cache: Path,
    quick: bool,
    vllm_python: Path | None = None,
) -> Report:
    """Measure what is asked for.

    Args:
        only: names of measurements (see `suite.choose`); the others are kept from the report in `output`.
        cache: folder of the random checkpoints.
        quick: whether the roofs may be rough too.
        vllm_python: of an environment with vLLM's CPU build; `None`: it is not measured.

    Raises:
        EvaluationError: a name is not known, the items cannot be used, or an earlier report to be kept is of another
            machine. A measurement whose results differ or that fails is written down as refused.
    """
    everything = slots(sizes)
    chosen = choose(everything, only)
    source = data_source(data)
    machine, items = describe(threads), ("folder " if source["source"] == "folder" else "") + source["name"]
    earlier = read_report(output / DATA) if only and (output / DATA).exists() else None
    if earlier is not None and (earlier.machine, earlier.data) != (machine, items):
        raise EvaluationError(
            f"{DATA} is of another machine, other versions or other items, and figures of two are not mixed: run all "
            "measurements, without --only"
        )
    vllm = None if vllm_python is None else VllmCpu(vllm_python, threads=threads, cache=cache / "vllm")
    alone = Alone(threads)
    reached = alone(roofs.measure, **QUICK_ROOFS) if quick else alone(roofs.measure)
    folders = _checkpoints(sizes, chosen, cache, alone)
    limits = {
        name: replace(reached, bytes_per_s=alone(roofs.bytes_per_s, step_bytes(shape(folders[name]))))
        for name in dict.fromkeys(slot.checkpoint for slot in chosen if slot.name in SPEED_NAMES)
    }
    measurements: list[Measurement] = []
    gaps: list[GapMeasurement] = []
    refusals: list[Refusal] = []
    for slot in chosen:
        folder = folders[slot.checkpoint]
        try:
            if slot.name == GAP:
                gaps.append(_gap(slot, sizes, folder, alone))
            else:
                roofs_here = limits.get(slot.checkpoint, reached)
                measurements.append(_measure(slot, sizes, folder, alone, roofs_here, data, vllm))
        except EvaluationError as error:
            logger.error("%s refused: %s", slot.key, error)
            refusals.append(Refusal(name=slot.name, checkpoint=slot.checkpoint, reason=str(error)))
    done = {slot.key for slot in chosen}
    order = [slot.key for slot in everything]
    return Report(
        schema=SCHEMA,
        machine=machine,
        git=git_state(),
        data=items,
        rounds=sizes.rounds,
        checkpoints=_described(sizes),
        roofs=reached,
        measurements=_merged(measurements, earlier.measurements if earlier else (), done, order),
        gaps=_merged(gaps, earlier.gaps if earlier else (), done, order),
        refusals=_merged(refusals, earlier.refusals if earlier else (), done, order),
    )


def _measure(
    slot: Slot, sizes: Sizes, folder: Path, alone: Alone, reached: Roofs, data: str, vllm: VllmCpu | None
) -> Measurement:
    what = task(slot, sizes, folder, context_length=_context_length(folder), data=data)
    return measure(what, rounds=sizes.rounds, roofs=reached, alone=alone, vllm=vllm)


def _gap(slot: Slot, sizes: Sizes, folder: Path, alone: Alone) -> GapMeasurement:
    runs = []
    for number in range(sizes.rounds):
        runs.append(alone(gap.run, str(folder), prompt_tokens=sizes.gap_prompt, stream_tokens=sizes.gap_stream))
        logger.info("%s: run %d, largest gap %.1f ms", slot.key, number + 1, 1e3 * runs[-1].beside_largest)
    return GapMeasurement(name=slot.name, checkpoint=slot.checkpoint, runs=tuple(runs))


def _checkpoints(sizes: Sizes, chosen: Iterable[Slot], cache: Path, alone: Alone) -> dict[str, Path]:
    """Folders of the checkpoints that are needed, written where they are not there yet."""
    folders = {BUNDLED_NAME: BUNDLED}
    wanted = {slot.checkpoint for slot in chosen}
    for random in _random(sizes):
        if random.name in wanted:
            folders[random.name] = cached(random, cache)
            if not folders[random.name].is_dir():
                logger.info("writing %s", random.name)
                alone(write, random, folders[random.name])
    return folders


def _random(sizes: Sizes) -> tuple[RandomPersimmon, ...]:
    return (sizes.random, sizes.large_vocabulary)


def _described(sizes: Sizes) -> dict[str, str]:
    described = {random.name: str(random) for random in _random(sizes)}
    if sizes.bundled:
        million = shape(BUNDLED).total / 1e6
        described[BUNDLED_NAME] = f"the bundled checkpoint, {million:.1f} M parameters, computed in fp32"
    return described


def _context_length(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])


def _merged(
    new: Sequence[_Keyed], earlier: Sequence[_Keyed], done: set[str], order: Sequence[str]
) -> tuple[_Keyed, ...]:
    """What was measured now, and of an earlier report what was not tried again, in the suite's order."""
    kept: list[_Keyed] = [one for one in earlier if one.key not in done and one.key in order]
    return tuple(sorted((*kept, *new), key=lambda one: order.index(one.key)))

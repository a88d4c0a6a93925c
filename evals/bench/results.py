"""What a benchmark run writes down. `results/bench/cpu.md` is rendered from this alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evals.errors import EvaluationError

SCHEMA = 2
READABLE = (1, SCHEMA)  # the first had no second peer
DATA = "cpu.json"

Better: TypeAlias = Literal["higher", "lower"]


class ResultsDiffer(EvaluationError):
    """Both sides did not give the same results, so there is nothing to time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One figure, measured several times; never empty."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def low(self) -> float:
        return min(self.runs)

    @property
    def high(self) -> float:
        return max(self.runs)

    @property
    def spread(self) -> float:
        """Widest distance of two runs, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Resident memory of one process, in bytes: when the model was loaded, and the most from then to the end."""

    loaded_bytes: int
    peak_bytes: int

    @property
    def extra_bytes(self) -> int:
        """What the work took on top of the loaded model."""
        return max(self.peak_bytes - self.loaded_bytes, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One setting of the peer that was tried, and how long the whole work took with it."""

    setting: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The least time this machine could need for the work, whoever does it.

    Attributes:
        bytes_s: to read the weights once a step, at `bytes_per_s`.
        operations_s: for the multiplications with weights, every distinct prefix once, at the measured fp32 rate.
        bytes_per_s: measured over as many bytes as the weights have: a small model's stay in the cache.
    """

    bytes_s: float
    operations_s: float
    bytes_per_s: float

    @property
    def seconds(self) -> float:
        return max(self.bytes_s, self.operations_s)

    @property
    def is_reading(self) -> bool:
        """Whether the weights' bytes set it, not the arithmetic."""
        return self.bytes_s >= self.operations_s


@dataclass(frozen=True, kw_only=True, slots=True)
class SecondPeer:
    """Another peer at the same work, in the same rounds; nothing must be reached against it.

    Attributes:
        name: with its version. runs: in the measurement's unit. ratio: how many times better ours is, by medians.
        memory: of the round with the highest peak. setting: the fastest. All of these are `None` or empty where there
            is no figure, because no setting gave the same results in every run.
        trials: settings with the same results, and how long the whole work took.
        num_ties: answers that part from ours at a tie.
        problems: settings that have no time, each with why, in a sentence.
    """

    name: str
    runs: Series | None
    ratio: float | None
    memory: Memory | None
    setting: str
    trials: tuple[Trial, ...]
    num_ties: int
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Both sides doing the same work, with the same results.

    Attributes:
        name, checkpoint: what and on which weights. work: the work in words. peer: who ours is compared with.
        unit, better: of `ours` and `peer_runs`; `ratio` is how many times better ours is, by medians.
        bar, aim: ratios that must and should be reached.
        num_ties: answers that part from the peer's at a tie of the two most probable tokens (see `gate.py`).
        ours_memory, peer_memory: of the round with the highest peak.
        setting, trials: the peer's fastest setting, and all that were tried.
        limit, units: the least possible time, and what one run of the work is worth in `unit`'s numerator; `None` where
            no time is measured.
        notes: sentences for the page.
        second: vLLM's CPU build at the same work; `None` where it was not measured.
    """

    name: str
    checkpoint: str
    work: str
    peer: str
    unit: str
    better: Better
    ours: Series
    peer_runs: Series
    ratio: float
    bar: float
    aim: float
    num_ties: int
    ours_memory: Memory
    peer_memory: Memory
    setting: str
    trials: tuple[Trial, ...]
    limit: Limit | None
    units: float | None
    notes: tuple[str, ...]
    second: SecondPeer | None = None

    @property
    def key(self) -> str:
        return f"{self.checkpoint}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaps:
    """How long a running stream waits for its next token, in seconds.

    Attributes:
        alone_median, alone_largest: with nothing else running. beside_*: while the long prompt was being read.
        num_tokens: the stream's tokens in that time.
        prompt_tokens, prompt_steps: of the long prompt, and the engine's steps until its first token.
        prompt_alone_s: until its first token with nothing else running: the gap if it were read in one step.
        prompt_beside_s: the same beside the stream.
    """

    alone_median: float
    alone_largest: float
    beside_median: float
    beside_largest: float
    num_tokens: int
    prompt_tokens: int
    prompt_steps: int
    prompt_alone_s: float
    prompt_beside_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GapMeasurement:
    """:class:`Gaps` of several runs; the stream's tokens were the same with and without the long prompt."""

    name: str
    checkpoint: str
    runs: tuple[Gaps, ...]

    @property
    def key(self) -> str:
        return f"{self.checkpoint}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A measurement that was not made, and why, in a sentence."""

    name: str
    checkpoint: str
    reason: str

    @property
    def key(self) -> str:
        return f"{self.checkpoint}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofs:
    """What this machine reached in this run: bytes read a second, and fp32 operations a second."""

    bytes_per_s: float
    operations_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One benchmark run.

    Attributes:
        machine: processor, cores, threads, memory and versions; figures of two machines never stand on one page.
        checkpoints: by name, what it is in words. data: where the items came from.
        git: commit and whether the tree differed from it.
    """

    schema: int
    machine: Mapping[str, Any]
    git: Mapping[str, Any]
    data: str
    rounds: int
    checkpoints: Mapping[str, str]
    roofs: Roofs
    measurements: tuple[Measurement, ...]
    gaps: tuple[GapMeasurement, ...]
    refusals: tuple[Refusal, ...]


def write_report(report: Report, folder: Path) -> Path:
    """Write `report` into `folder` and read it back.

    Raises:
        EvaluationError: the folder cannot be written to.
    """
    path = folder / DATA
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}): choose another --output") from None
    if read_report(path) != report:
        raise EvaluationError(f"{path.name} does not read back as it was written: check the disk and run again")
    return path


def read_report(path: Path) -> Report:
    """The report in a file.

    Raises:
        EvaluationError: it is no report of this schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvaluationError(f"{path.name} cannot be read ({error}): remove it or run again") from None
    if not isinstance(raw, dict) or raw.get("schema") not in READABLE:
        raise EvaluationError(f"{path.name} is no benchmark report of schema {SCHEMA}: remove it and run again")
    try:
        return Report(
            **raw
            | {
                "schema": SCHEMA,
                "roofs": Roofs(**raw["roofs"]),
                "measurements": tuple(_measurement(one) for one in raw["measurements"]),
                "gaps": tuple(
                    GapMeasurement(**one | {"runs": tuple(Gaps(**run) for run in one["runs"])}) for one in raw["gaps"]
                ),
                "refusals": tuple(Refusal(**one) for one in raw["refusals"]),
            }
        )
    except (KeyError, TypeError):
        expected = ", ".join(field.name for field in fields(Report))
        raise EvaluationError(f"{path.name} lacks or adds a key: a report has {expected}") from None


def rounded(value: float) -> float:
    """Six significant digits: more would be noise on the page's data."""
    return float(f"{value:.6g}")


def ratio(ours: float, other: float, *, better: Better) -> float:
    """How many times better ours is."""
    return rounded(ours / other if better == "higher" else other / ours)


def series(values: Sequence[float]) -> Series:
    """The values as they are written down."""
    return Series(runs=tuple(rounded(value) for value in values))


def _measurement(raw: Mapping[str, Any]) -> Measurement:
    return Measurement(
        **{
            **raw,
            "ours": Series(runs=tuple(raw["ours"]["runs"])),
            "peer_runs": Series(runs=tuple(raw["peer_runs"]["runs"])),
            "ours_memory": Memory(**raw["ours_memory"]),
            "peer_memory": Memory(**raw["peer_memory"]),
            "trials": tuple(Trial(**trial) for trial in raw["trials"]),
            "limit": None if raw["limit"] is None else Limit(**raw["limit"]),
            "notes": tuple(raw["notes"]),
            "second": None if raw.get("second") is None else _second(raw["second"]),
        }
    )


def _second(raw: Mapping[str, Any]) -> SecondPeer:
    return SecondPeer(
        **{
            **raw,
            "runs": None if raw["runs"] is None else Series(runs=tuple(raw["runs"]["runs"])),
            "memory": None if raw["memory"] is None else Memory(**raw["memory"]),
            "trials": tuple(Trial(**trial) for trial in raw["trials"]),
            "problems": tuple(raw["problems"]),
        }
    )

"""What the measurements on running text (`sparsity`, `rope-precision`) share: options, command, record files."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from evals import environment
from evals.errors import EvaluationError
from evals.model_names import find_checkpoint
from evals.provenance import ROOT, git_state, hardware, model_identity, versions
from evals.texts import Texts, read_texts
from model.interface import EngineError, EngineInfo

if TYPE_CHECKING:
    from model.probes.loaded import LoadedModel

EMPTY = "–"

Record = TypeVar("Record", bound="MeasurementRecord")


@dataclass(frozen=True, kw_only=True)
class MeasurementRecord(ABC):
    """What every such record says. Undefined values are `None`, never 0.

    Attributes:
        SCHEMA, FOLDER: version of the record's form, and where such records lie in `results`.
        started: UTC, ISO 8601. model: identity of the weights. device, dtype: of the computation.
        text: see `Texts.described`. num_tokens: measured. limit_tokens: most tokens asked for, `None` for all.
    """

    SCHEMA: ClassVar[int]
    FOLDER: ClassVar[str]

    schema: int
    started: str
    model: dict[str, Any]
    device: str
    dtype: str
    text: dict[str, Any]
    num_tokens: int
    limit_tokens: int | None
    hardware: dict[str, Any]
    versions: dict[str, Any]
    git: dict[str, Any]

    @classmethod
    @abstractmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `asdict` gave, read back from JSON; TypeError or KeyError if it lacks or adds a key."""

    @property
    def file_name(self) -> str:
        """The same for the same model and text, so that a later measurement replaces an earlier one."""
        return f"{_plain(self.model['name'])}--{_plain(self.text['label'])}.json"

    @property
    def sort_key(self) -> tuple[str, ...]:
        return self.model["name"], self.text["label"], self.started


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all measurements take."""
    parser.add_argument("--checkpoint", default="persimmon-demo", help="folder or Hub id (default: the bundled one)")
    parser.add_argument("--revision", help="of a Hub checkpoint: branch, tag or commit")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0, ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument(
        "--text", type=Path, help=".txt file (one text) or .jsonl file (column text); default: the demo world's items"
    )
    parser.add_argument("--context-length", type=_at_least_two, help="most tokens at once, if not the model's own")
    parser.add_argument("--limit-tokens", type=_at_least_two, help="measure only the first so many tokens")
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="default: results")


def _at_least_two(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 2")
    return int(text)


def run(
    options: argparse.Namespace,
    measure: Callable[[str, Texts, argparse.Namespace], Record],
    render: Callable[[Sequence[Record]], str],
) -> int:
    """One command: measure, write the record, print it.

    Args:
        options: parsed by :func:`add_arguments`.
        measure: gets the checkpoint and the texts.

    Returns:
        0, or 1 after one sentence on stderr.
    """
    checkpoint = find_checkpoint(options.checkpoint)
    environment.prepare(offline=Path(checkpoint).is_dir())
    try:
        record = measure(checkpoint, read_texts(options.text), options)
        path = write(record, options.output)
    except (EvaluationError, EngineError) as error:
        sys.stderr.write(f"evals: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("evals: stopped; nothing was written\n")
        return 130  # as a shell reports SIGINT
    sys.stdout.write(f"{render([record])}\n{path}\n")
    return 0


def common_fields(
    info: EngineInfo | LoadedModel, texts: Texts, *, started: datetime, git: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of :class:`MeasurementRecord` that do not depend on what is measured."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "model": model_identity(info),
        "device": info.device,
        "dtype": info.dtype,
        "text": texts.described(),
        "hardware": hardware(info.device),
        "versions": versions(),
        "git": dict(git),
    }


def begin() -> tuple[datetime, dict[str, Any]]:
    """The time, and the state of the code before this measurement adds a file."""
    return datetime.now(UTC), git_state()


def write(record: MeasurementRecord, output: Path) -> Path:
    """Write `record` into its folder under `output` and read it back.

    Raises:
        EvaluationError: it cannot be written, or what was written is not what was meant.
    """
    path = output / record.FOLDER / record.file_name
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}): choose another --output") from None
    if read(type(record), path) != record:
        raise EvaluationError(f"{path.name} does not read back as it was written: check the disk and run again")
    return path


def read(kind: type[Record], path: Path) -> Record:
    """The record in a file.

    Raises:
        EvaluationError: it is no record of this kind and schema.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{name} cannot be read ({error}): remove it or measure again") from None
    if not isinstance(raw, dict) or raw.get("schema") != kind.SCHEMA:
        raise EvaluationError(f"{name} is no record of schema {kind.SCHEMA}: remove it or measure again")
    try:
        return kind.from_json(raw)
    except (KeyError, TypeError):
        raise EvaluationError(f"{name} lacks or adds a key: remove it or measure again") from None


def read_all(kind: type[Record], output: Path) -> list[Record]:
    """All records of a kind under `output`, by model, text and time.

    Raises:
        EvaluationError: one cannot be read.
    """
    records = [read(kind, path) for path in sorted((output / kind.FOLDER).glob("*.json"))]
    return sorted(records, key=lambda record: record.sort_key)


def heading(record: MeasurementRecord) -> str:
    """What a record's tables stand under: the model and the text, and how it was computed."""
    from evals.export import escape_markdown  # pandas comes with it, which `--help` does not wait for

    model, text = record.model, record.text
    name, label, source = (escape_markdown(part) for part in (model["name"], text["label"], text["name"]))
    notice = f"\n{escape_markdown(model['notice'])}\n" if model["notice"] else ""
    limit = "" if record.limit_tokens is None else f", cut to {record.limit_tokens:,} tokens"
    return (
        f"### {name} on {label}\n\n"
        f"Weights {model['weights_sha256'][:8]} in {record.dtype} on {record.hardware['gpu'] or 'a CPU'}, "
        f"{record.started[:10]}; {record.num_tokens:,} tokens of {text['num_texts']:,} texts ({source}, "
        f"{text['sha256'][:8]}){limit}.\n{notice}"
    )


def percent(share: float | None) -> str:
    """A share of 1 as a table shows it."""
    return EMPTY if share is None else f"{100 * share:.1f}"


def defined(value: float) -> float | None:
    """`None` for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"

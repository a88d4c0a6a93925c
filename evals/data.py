"""Where a benchmark's items come from: the Hub, a folder of JSONL files, or the bundled demo world.

All three give the same columns, so one task file serves them all. A task names a `custom_dataset` function
(see `evals/tasks/arc.py`) that calls :func:`load`; which source it reads is the `data` entry of lm-eval's
task metadata.

A folder holds `<benchmark>.jsonl` and, if the shots are to come from elsewhere, `<benchmark>_shots.jsonl`.
Without the second file a fixed few rows of the first become the shot pool and are never scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from evals.errors import DataError

HUB = "hub"
DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "data" / "demo"
HELD_OUT_SHOTS = 16  # rows of a file without a shot file that become its pool: 1 % of ARC-Easy's test set

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark's place on the Hub and the shape of its rows.

    Attributes:
        name: stem of its file in a folder, such as `arc_easy`.
        hub_path, hub_config: arguments of `datasets.load_dataset`.
        scored_split, shot_split: Hub splits whose rows are scored, and from which shots are drawn.
        read_row: checks one raw row and gives its normalised columns, `id` among them; raises DataError
            with the column and the rule. Its first argument says where the row stands.
    """

    name: str
    hub_path: str
    hub_config: str
    scored_split: str
    shot_split: str
    read_row: Callable[[str, Mapping[str, Any]], Row]


def load(benchmark: Benchmark, *, data: str, shots: int, seed: int) -> Any:
    """The scored items of one benchmark as a `datasets.DatasetDict` with the single split `test`.

    With `shots=1` each row has one more column, `shot`: a row of the pool fixed by a hash of the seed and
    the item's id alone, whatever the order of the items or their number, and never the item itself.

    Args:
        data: `hub`, `demo`, or a folder.
        shots: 0 or 1.
        seed: of the choice of shots.

    Raises:
        DataError: a file is missing or a row breaks a rule.
    """
    import datasets

    if shots not in (0, 1):
        raise DataError(f"shots={shots!r} is not allowed: these tasks take 0 or 1")
    scored, pool = _from_hub(benchmark) if data == HUB else _from_folder(benchmark, data_folder(data))
    if shots:
        scored = [row | {"shot": choose_shot(row, pool, seed=seed)} for row in scored]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(scored)})


def data_folder(data: str) -> Path:
    """The folder `data` stands for (`demo` is the bundled one).

    Raises:
        DataError: it is no folder.
    """
    folder = DEMO_FOLDER if data == DEMO else Path(data)
    if not folder.is_dir():
        raise DataError(f"data={data!r} is not allowed: it must be {HUB!r}, {DEMO!r} or an existing folder")
    return folder


def choose_shot(item: Row, pool: Iterable[Row], *, seed: int) -> Row:
    """The shot of one item: the pool row at a place given by a SHA-256 of the seed and the item's id.

    Rows with the item's own id or question cannot be chosen.

    Raises:
        DataError: no row is left to choose.
    """
    candidates = sorted(pool, key=lambda row: str(row["id"]))
    first = _hash(seed, item["id"])
    for step in range(len(candidates)):
        row = candidates[(first + step) % len(candidates)]
        if row["id"] != item["id"] and row["question"] != item["question"]:
            return row
    raise DataError(f"item {item['id']!r} has no shot: the pool holds no other row")


def content_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hash of the scored items, in order and without their shots: the same for the same items from any source."""
    digest = hashlib.sha256()
    for row in rows:
        plain = {name: value for name, value in row.items() if name != "shot"}
        digest.update(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _hash(seed: int | str, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest())


def _from_hub(benchmark: Benchmark) -> tuple[list[Row], list[Row]]:
    import datasets

    try:
        splits = datasets.load_dataset(benchmark.hub_path, benchmark.hub_config)
    except Exception as error:  # the library's errors share no base class
        raise DataError(
            f"{benchmark.hub_path} {benchmark.hub_config} could not be loaded from the Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}): check the "
            f"connection, or give a folder with {benchmark.name}.jsonl"
        ) from error
    scored, pool = (
        _read_rows(
            benchmark,
            (
                (f"{benchmark.hub_path} {benchmark.hub_config} {split}, row {number}", row)
                for number, row in enumerate(splits[split])
            ),
        )
        for split in (benchmark.scored_split, benchmark.shot_split)
    )
    return scored, pool


def _from_folder(benchmark: Benchmark, folder: Path) -> tuple[list[Row], list[Row]]:
    path = folder / f"{benchmark.name}.jsonl"
    rows = _read_rows(benchmark, _lines(path))
    shots_path = folder / f"{benchmark.name}_shots.jsonl"
    if shots_path.is_file():
        return rows, _read_rows(benchmark, _lines(shots_path))
    if len(rows) <= HELD_OUT_SHOTS:
        raise DataError(
            f"{path.name} has {len(rows)} rows and there is no {shots_path.name}: give a shot file, or more than "
            f"{HELD_OUT_SHOTS} rows, of which {HELD_OUT_SHOTS} become the shots"
        )
    # The seed is not used here: every run scores the same items.
    held_out = {row["id"] for row in sorted(rows, key=lambda row: _hash("shots", row["id"]))[:HELD_OUT_SHOTS]}
    return (
        [row for row in rows if row["id"] not in held_out],
        [row for row in rows if row["id"] in held_out],
    )


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path.name} is missing from {path.parent.name}/: put the benchmark's items there")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path.name}, line {number}"
        try:
            yield place, json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{place} is not JSON ({error.msg} at character {error.colno})") from None


def _read_rows(benchmark: Benchmark, numbered: Iterable[tuple[str, Any]]) -> list[Row]:
    places: dict[str, str] = {}
    rows: list[Row] = []
    for place, raw in numbered:
        if not isinstance(raw, Mapping):
            raise DataError(f"{place} is a {type(raw).__name__}: it must be an object with the benchmark's columns")
        row = benchmark.read_row(place, raw)
        if row["id"] in places:
            raise DataError(f"{place}, column id: {row['id']!r} already stands at {places[row['id']]}: ids are unique")
        places[row["id"]] = place
        rows.append(row)
    if not rows:
        raise DataError(f"{benchmark.name} has no rows: there is nothing to score")
    return rows

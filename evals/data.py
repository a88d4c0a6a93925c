"""Where a benchmark's items come from: the Hub, a folder of JSONL files, or the bundled demo world.

All three give the same columns, so one task file serves them all. A task names a `custom_dataset` function
(see `evals/tasks/items.py`) that calls :func:`load`; which source it reads is the `data` entry of lm-eval's
task metadata.

A folder holds `<benchmark>.jsonl` and, if the shots are to come from elsewhere, `<benchmark>_shots.jsonl`.
Without the second file a fixed few rows of the first become the shot pool and are never scored, unless the
benchmark's shots are its own items.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Row
from evals.errors import DataError
from evals.shots import ShotPool, hold_out

HUB = "hub"
DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "data" / "demo"


def load(benchmark: Benchmark, *, data: str, num_shots: int, seed: int) -> Any:
    """The scored items of one benchmark as a `datasets.DatasetDict` with the single split `test`.

    With `num_shots=1` each row has one more column, `shot`: a row of the pool fixed by a hash of the seed and
    the item's id alone, whatever the order of the items or their number, and never the item itself.

    Args:
        data: `hub`, `demo`, or a folder.
        num_shots: 0 or 1.
        seed: of the choice of shots.

    Raises:
        DataError: a file is missing, a row breaks a rule, or an item has no shot.
    """
    import datasets

    if num_shots not in (0, 1):
        raise DataError(f"shots={num_shots!r} is not allowed: these tasks take 0 or 1")
    scored, pool = _from_hub(benchmark) if data == HUB else _from_folder(benchmark, data_folder(data))
    if num_shots:
        shots = ShotPool(benchmark, pool)
        scored = [row | {"shot": shots.choose(row, seed=seed)} for row in scored]
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


def content_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hash of the scored items, in order and without their shots: the same for the same items from any source."""
    digest = hashlib.sha256()
    for row in rows:
        plain = {name: value for name, value in row.items() if name != "shot"}
        digest.update(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


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

    def rows_of(split: str) -> list[Row]:
        place = f"{benchmark.hub_path} {benchmark.hub_config} {split}, row"
        return _read_rows(benchmark, ((f"{place} {number}", row) for number, row in enumerate(splits[split])))

    scored = rows_of(benchmark.scored_split)
    return scored, scored if benchmark.shots_are_items else rows_of(benchmark.shot_split)


def _from_folder(benchmark: Benchmark, folder: Path) -> tuple[list[Row], list[Row]]:
    path = folder / f"{benchmark.name}.jsonl"
    rows = _read_rows(benchmark, _lines(path))
    shots_path = folder / f"{benchmark.name}_shots.jsonl"
    if shots_path.is_file():
        return rows, _read_rows(benchmark, _lines(shots_path))
    if benchmark.shots_are_items:
        return rows, rows
    return hold_out(benchmark, rows, path)


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
    copies: Counter[str] = Counter()
    rows: list[Row] = []
    for place, raw in numbered:
        if not isinstance(raw, Mapping):
            raise DataError(f"{place} is a {type(raw).__name__}: it must be an object with the benchmark's columns")
        row = benchmark.read_row(place, raw)
        if not benchmark.has_ids:
            copies[row["id"]] += 1
            if copies[row["id"]] > 1:
                row["id"] = f"{row['id']}#{copies[row['id']]}"
        if row["id"] in places:
            raise DataError(f"{place}, column id: {row['id']!r} already stands at {places[row['id']]}: ids are unique")
        places[row["id"]] = place
        rows.append(row)
    if not rows:
        raise DataError(f"{benchmark.name} has no rows: there is nothing to score")
    return rows

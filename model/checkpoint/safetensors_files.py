"""Which tensors the safetensors files of a folder hold, read from their headers alone.

Format: 8 bytes little-endian header length, a JSON header, then the data (huggingface/safetensors, README).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One stored tensor: its file, name, dtype as the format names it (`BF16`, `F32`, ...) and shape."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_entries(folder: Path) -> dict[str, TensorEntry]:
    """All tensors of a checkpoint folder by name, after checking every file's length.

    Raises:
        CheckpointError: no weights, a shard missing or cut short, a tensor stored twice or not where the index says.
    """
    files, index = _weight_files(folder)
    entries: dict[str, TensorEntry] = {}
    for file in files:
        for entry in _read_header(file):
            if entry.name in entries:
                raise CheckpointError(
                    f"{entry.name} is stored in both {entries[entry.name].file.name} and {file.name}: keep one"
                )
            entries[entry.name] = entry
    for name, file_name in index.items():
        if name not in entries or entries[name].file.name != file_name:
            raise CheckpointError(f"{folder / file_name} lacks {name}, which {INDEX_NAME} puts there: fetch it again")
    return entries


def _weight_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The files to read, and the index (tensor name to file name), which is empty for a single file."""
    if (folder / INDEX_NAME).is_file():
        index = read_json(folder / INDEX_NAME).get("weight_map")
        if not isinstance(index, dict) or not all(
            isinstance(name, str) and Path(name).name == name for name in index.values()
        ):
            raise CheckpointError(f"{folder / INDEX_NAME} has no weight_map of file names: fetch it again")
        files = [folder / name for name in sorted(set(index.values()))]
        for file in files:
            if not file.is_file():
                raise CheckpointError(f"{file} is missing, though {INDEX_NAME} lists it: fetch it again")
        return files, index
    if (folder / SINGLE_NAME).is_file():
        return [folder / SINGLE_NAME], {}
    raise CheckpointError(f"{folder} has neither {SINGLE_NAME} nor {INDEX_NAME}: it needs safetensors weights")


def _read_header(file: Path) -> list[TensorEntry]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 0 < length <= min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointError(f"{file} is no complete safetensors file (bad header length): fetch it again")
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            entries = []
            for name, field in header.items():
                begin, end = field["data_offsets"]
                if not 0 <= begin <= end:
                    raise ValueError(f"{name} has the offsets {begin} to {end}")
                if 8 + length + end > size:
                    raise CheckpointError(
                        f"{file} is cut short: {name} ends at byte {8 + length + end} of {size}: fetch it again"
                    )
                shape = tuple(int(dimension) for dimension in field["shape"])
                entries.append(TensorEntry(file, name, str(field["dtype"]), shape))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file} has a damaged safetensors header ({error}): fetch it again") from None
    return entries

"""What a safetensors file holds, read from its header alone, and whether all of it is there.

Format: 8 bytes little-endian header length, a JSON header, then the data (huggingface/safetensors, README).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One stored tensor: its file, name, dtype as the format names it (`BF16`, `F32`, ...) and shape."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_header(file: Path) -> list[TensorEntry]:
    """All tensors of a file, after checking that their data lies within it.

    Raises:
        CheckpointError: the header is damaged or the file is cut short.
    """
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

"""safetensors files written as the data comes: in memory there is never more than a slice of one tensor.

The library's own writer takes whole tensors, which would need the memory of a shard. Format: 8 bytes little-endian
header length, a JSON header padded with spaces to a multiple of 8, then the data (huggingface/safetensors, README).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from model.checkpoint.errors import CheckpointError

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class Writable(Protocol):
    """A tensor whose rows are made as they are asked for."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def nbytes(self) -> int: ...
    def slices(self) -> Iterator[Tensor]: ...


def plan_shards(tensors: Sequence[Writable], *, limit: int) -> list[list[Writable]]:
    """Consecutive tensors in files of at most `limit` bytes each, header included.

    Raises:
        CheckpointError: a tensor alone is larger.
    """
    shards: list[list[Writable]] = [[]]
    for tensor in tensors:
        if _file_size([tensor]) > limit:
            raise CheckpointError(
                f"--shard-size {limit} is too small for {tensor.name}: it must be at least {_file_size([tensor])} bytes"
            )
        if _file_size([*shards[-1], tensor]) > limit:
            shards.append([])
        shards[-1].append(tensor)
    return shards


def write_shards(
    folder: Path, shards: Sequence[Sequence[Writable]], *, written: Callable[[int], object]
) -> dict[str, str]:
    """Write the files, and an index where there are several.

    Args:
        written: told the number of bytes after each slice.

    Returns:
        SHA-256 by file name.
    """
    hashes: dict[str, str] = {}
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        hashes[name] = _write_shard(folder / name, shard, written)
        weight_map |= {tensor.name: name for tensor in shard}
    if len(shards) > 1:
        total = sum(tensor.nbytes for shard in shards for tensor in shard)
        index = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n"
        (folder / INDEX).write_text(index, encoding="utf-8")
        hashes[INDEX] = hashlib.sha256(index.encode()).hexdigest()
    return hashes


def _header(tensors: Sequence[Writable]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        fields[tensor.name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _file_size(tensors: Sequence[Writable]) -> int:
    return len(_header(tensors)) + sum(tensor.nbytes for tensor in tensors)


def _write_shard(path: Path, tensors: Sequence[Writable], written: Callable[[int], object]) -> str:
    digest = hashlib.sha256()
    with path.open("xb") as stream:
        header = _header(tensors)
        stream.write(header)
        digest.update(header)
        for tensor in tensors:
            count = 0
            for rows in tensor.slices():
                data = rows.reshape(-1).view(torch.uint8).numpy().data
                stream.write(data)
                digest.update(data)
                count += len(data)
                written(len(data))
            if count != tensor.nbytes:
                raise CheckpointError(f"{tensor.name} gave {count} bytes where {tensor.nbytes} were announced")
    return digest.hexdigest()

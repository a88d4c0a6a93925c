"""Which weight files a checkpoint folder has, which tensors they hold, and how to read them slice by slice.

safetensors files are preferred; PyTorch's `.bin` pickles are read with `weights_only=True` and nothing else.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.safetensors_header import TensorEntry, read_header


@dataclass(frozen=True, slots=True)
class Layout:
    """File names of one way to store weights: all in `single`, or in the shards that `index` lists."""

    single: str
    index: str


LAYOUTS = (
    Layout("model.safetensors", "model.safetensors.index.json"),
    Layout("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


class Stored(Protocol):
    """A tensor in a file; slices of its rows come into memory as they are taken."""

    def __getitem__(self, rows: slice) -> Tensor: ...


def read_entries(folder: Path) -> dict[str, TensorEntry]:
    """All tensors of a checkpoint folder by name, after checking every safetensors file's length.

    Raises:
        CheckpointError: no weights, a shard missing or cut short, a tensor stored twice or not where the index says.
    """
    layout = _layout(folder)
    files, index = _weight_files(folder, layout)
    entries: dict[str, TensorEntry] = {}
    for file in files:
        for entry in read_header(file) if file.suffix == ".safetensors" else _pickle_entries(file):
            if entry.name in entries:
                raise CheckpointError(
                    f"{entry.name} is stored in both {entries[entry.name].file.name} and {file.name}: keep one"
                )
            entries[entry.name] = entry
    for name, file_name in index.items():
        if name not in entries or entries[name].file.name != file_name:
            raise CheckpointError(f"{folder / file_name} lacks {name}, which {layout.index} puts there: fetch it again")
    return entries


@contextmanager
def open_tensors(file: Path) -> Iterator[Callable[[str], Stored]]:
    """A function from a tensor's name to the tensor, as long as the file is open.

    Raises:
        CheckpointError: the file cannot be read.
    """
    if file.suffix == ".bin":
        yield _load_pickle(file).__getitem__
        return
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened.get_slice
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): fetch it again") from None


def _layout(folder: Path) -> Layout:
    for layout in LAYOUTS:
        if (folder / layout.single).is_file() or (folder / layout.index).is_file():
            return layout
    wanted = " or ".join(f"{layout.single} ({layout.index})" for layout in LAYOUTS)
    raise CheckpointError(f"{folder} has no weights: it needs {wanted}")


def _weight_files(folder: Path, layout: Layout) -> tuple[list[Path], dict[str, str]]:
    """The files to read, and the index (tensor name to file name), which is empty for a single file."""
    if not (folder / layout.index).is_file():
        return [folder / layout.single], {}
    index = read_json(folder / layout.index).get("weight_map")
    suffix = Path(layout.single).suffix
    if not isinstance(index, dict) or not all(
        isinstance(name, str) and Path(name).name == name and name.endswith(suffix) for name in index.values()
    ):
        raise CheckpointError(f"{folder / layout.index} has no weight_map of {suffix} file names: fetch it again")
    files = [folder / name for name in sorted(set(index.values()))]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing, though {layout.index} lists it: fetch it again")
    return files, index


def _load_pickle(file: Path) -> dict[str, Tensor]:
    """Tensors of a `.bin` file, mapped and not read where the file allows it; no code in it is run."""
    try:
        try:
            tensors: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files older than torch 1.6 are no zip archives and cannot be mapped
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{file} holds more than tensors and is not loaded ({reason}): use safetensors") from None
    except Exception as error:  # torch.load raises many kinds for damaged files
        raise CheckpointError(f"{file} cannot be read ({type(error).__name__}: {error}): fetch it again") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{file} is no table of tensors by name: use the checkpoint's own weight file")
    return tensors


def _pickle_entries(file: Path) -> list[TensorEntry]:
    names = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    return [
        TensorEntry(file, name, names.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
        for name, tensor in _load_pickle(file).items()
    ]

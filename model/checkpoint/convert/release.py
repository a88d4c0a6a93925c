"""A release opened: the arguments it was trained with, and each rank's tensors by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from model.checkpoint.convert.release_files import Stretch
from model.checkpoint.convert.restricted_pickle import CheckpointArgs, StoredTensor
from model.checkpoint.convert.torch_archive import TorchArchive
from model.checkpoint.convert.wording import shown, some
from model.checkpoint.errors import CheckpointError

# Older checkpoints order the rows of query_key_value otherwise (Megatron-LM, fix_query_key_value_ordering).
OLDEST_CHECKPOINT_VERSION: Final = 2.0
DEEPEST: Final = 12
MOST_TENSORS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Rank:
    """One tensor-parallel rank: its file and the tensors described in it, under Megatron's names."""

    archive: TorchArchive
    tensors: Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class Release:
    """`args`: Megatron's arguments by name, the same on all ranks; `ranks` in order."""

    args: Mapping[str, Any]
    ranks: tuple[Rank, ...]


def open_release(files: Sequence[Stretch], *, compared_args: Sequence[str]) -> Release:
    """Open every rank's file.

    Args:
        files: one for each rank, in order.
        compared_args: arguments that must be the same on all ranks.

    Raises:
        CheckpointError: a file cannot be read, or the ranks do not belong together.
    """
    opened = [_open_rank(file) for file in files]
    first_args, first = opened[0]
    for args, rank in opened[1:]:
        for name in compared_args:
            if _comparable(args.get(name)) != _comparable(first_args.get(name)):
                raise CheckpointError(
                    f"{shown(rank.archive.name)} has {name}={shown(args.get(name))} where {shown(first.archive.name)} "
                    f"has {shown(first_args.get(name))}: the ranks are not of one release"
                )
        different = sorted(first.tensors.keys() ^ rank.tensors.keys())
        if different:
            lacking = rank if different[0] in first.tensors else first
            raise CheckpointError(
                f"{shown(lacking.archive.name)} lacks {some(different)}, which another rank has: the ranks are not of "
                "one release"
            )
    return Release(first_args, tuple(rank for _, rank in opened))


def _comparable(value: object) -> object:
    return value if isinstance(value, (bool, int, float, str)) else None


def _open_rank(file: Stretch) -> tuple[Mapping[str, Any], Rank]:
    archive = TorchArchive(file)
    content = archive.load()
    name = shown(archive.name)
    if not isinstance(content, dict):
        raise CheckpointError(f"{name} holds no table with args and model: it is not a Megatron checkpoint")
    for key, kind in (("args", CheckpointArgs), ("model", dict)):
        if not isinstance(content.get(key), kind):
            raise CheckpointError(f"{name} has no {key!r} of the kind Megatron saves: it is not Adept's release")
    version = content.get("checkpoint_version", OLDEST_CHECKPOINT_VERSION)
    if type(version) not in (int, float) or not version >= OLDEST_CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{name} has checkpoint_version={shown(version)}: below {OLDEST_CHECKPOINT_VERSION} query, key and value "
            "are ordered otherwise, which is not supported"
        )
    return content["args"].values, Rank(archive, _flatten(content["model"], name))


def _flatten(model: dict[Any, Any], file: str) -> dict[str, StoredTensor]:
    """Nested tables to dotted names; anything in them that is no tensor is refused by name."""
    tensors: dict[str, StoredTensor] = {}
    visited = 0
    pending: list[tuple[str, int, object]] = [("", 0, model)]
    while pending:
        prefix, depth, value = pending.pop()
        visited += 1
        if visited > MOST_TENSORS or depth > DEEPEST:
            raise CheckpointError(f"{file} nests more than {DEEPEST} deep or holds over {MOST_TENSORS} names: too many")
        if isinstance(value, StoredTensor):
            if prefix in tensors:
                raise CheckpointError(f"{file} holds {shown(prefix)} twice: it is not Adept's release")
            tensors[prefix] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise CheckpointError(f"{file} holds the name {shown(key)} in {shown(prefix)}: it must be text")
                pending.append((f"{prefix}.{key}" if prefix else key, depth + 1, inner))
        else:
            raise CheckpointError(f"{file} holds {shown(prefix)}, which is no tensor: it is not Adept's release")
    return tensors

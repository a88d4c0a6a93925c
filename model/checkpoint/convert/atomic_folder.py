"""A folder that is either complete or not there.

It is written beside its place as `<name>.partial` and renamed at the end. What a killed run leaves behind is marked and
is replaced by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from model.checkpoint.errors import CheckpointError

MARKER: Final = "CONVERSION_IS_NOT_FINISHED"


@contextmanager
def atomic_folder(destination: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name `destination` when the block ends without an exception and is
    removed when it ends with one.

    Raises:
        CheckpointError: the destination exists, its parent does not, or somebody else is writing it.
    """
    check_destination(destination)
    place = Path(os.path.abspath(destination))
    partial = place.with_name(place.name + ".partial")
    _remove_leftover(partial)
    partial.mkdir()
    try:
        with (partial / MARKER).open("x") as marker:
            _lock(marker, partial)
            yield partial
            (partial / MARKER).unlink()
            _sync(partial)
            check_destination(destination)
            partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_destination(destination: Path) -> None:
    """See that `destination` can be made.

    Raises:
        CheckpointError: it exists, or its parent does not.
    """
    place = Path(os.path.abspath(destination))
    if os.path.lexists(place):
        raise CheckpointError(f"{destination} exists already: choose another destination or remove it first")
    if not place.parent.is_dir():
        raise CheckpointError(f"{place.parent} is no folder: make it, or choose another destination")


def _remove_leftover(partial: Path) -> None:
    if not os.path.lexists(partial):
        return
    marker = partial / MARKER
    if partial.is_symlink() or not partial.is_dir() or marker.is_symlink() or not marker.is_file():
        raise CheckpointError(f"{partial} is in the way and was not left by a conversion: remove it")
    with marker.open() as stream:
        _lock(stream, partial)
        shutil.rmtree(partial)


def _lock(marker: IO[str], partial: Path) -> None:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CheckpointError(f"{partial} is being written by another conversion: wait for it") from None


def _sync(folder: Path) -> None:
    """Have the operating system put the files on disk before the folder gets its name."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Which files a release holds, read in place: from the tar as it was published, or from the folder it unpacks to.

Nothing is ever extracted. A tar's member is a stretch of the tar's own bytes, so that neither its name nor its type
can make us write anywhere; hostile ones are refused all the same, because such a file is not Adept's release.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from model.checkpoint.convert.wording import shown, some
from model.checkpoint.errors import CheckpointError

# Megatron's names (megatron/checkpointing.py: get_checkpoint_names, get_checkpoint_tracker_filename).
TRACKER: Final = "latest_checkpointed_iteration.txt"
RANK_FILE: Final = "model_optim_rng.pt"
TOKENIZER: Final = "adept_vocab.model"
DEEPEST: Final = 4  # 8b_chat_model_release/iter_0000001/mp_rank_00/model_optim_rng.pt
_RANK_PATH = re.compile(
    rf"(?P<root>(?:.*/)?)(?P<iteration>iter_\d{{7,12}}|release)/mp_rank_(?P<rank>\d{{2,4}})"
    rf"(?:_(?P<stage>\d{{3}}))?/{re.escape(RANK_FILE)}"
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """`size` bytes from byte `offset` of the file `path`; `name`: the release's file that they are."""

    path: Path
    name: str
    offset: int
    size: int

    def read(self, *, at_most: int) -> bytes:
        """All bytes.

        Raises:
            CheckpointError: there are more than `at_most`.
        """
        if self.size > at_most:
            raise CheckpointError(f"{shown(self.name)} has {self.size} bytes where at most {at_most} make sense")
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)


@dataclass(frozen=True, slots=True)
class ReleaseFiles:
    """The files the conversion reads: one pickle for each tensor-parallel rank, in order, and the tokenizer.

    `iteration` is the folder's name, `iter_0000001` or `release`.
    """

    kind: Literal["tar", "folder"]
    iteration: str
    ranks: tuple[Stretch, ...]
    tokenizer: Stretch


def find_release_files(source: Path) -> ReleaseFiles:
    """The files of a release.

    Args:
        source: the tar, not compressed, or the folder that was unpacked from it.

    Raises:
        CheckpointError: it is neither, a file is missing, or a member has a name or type that no release has.
    """
    if source.is_dir():
        return _choose(source, "folder", _folder_files(source))
    if not source.exists():
        raise CheckpointError(f"{source} is not there: give the release's tar or the folder it was unpacked to")
    if not source.is_file():
        raise CheckpointError(f"{source} is neither a file nor a folder: give the release's tar")
    return _choose(source, "tar", _tar_files(source))


def _tar_files(path: Path) -> dict[str, Stretch]:
    files: dict[str, Stretch] = {}
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = _checked_name(member.name, path)
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise CheckpointError(
                        f"{path} holds {shown(member.name)}, {_kind(member)}: a release has only plain files"
                    )
                if name in files:
                    raise CheckpointError(f"{path} holds {shown(name)} twice: a release does not")
                if not 0 <= member.size <= size - member.offset_data:
                    raise CheckpointError(
                        f"{path} is cut short: {shown(name)} ends at byte {member.offset_data + member.size} of {size}"
                    )
                files[name] = Stretch(path, name, member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path} cannot be read as an uncompressed tar ({shown(error)}): unpack it if it is compressed, else fetch "
            "it again"
        ) from None
    return files


def _checked_name(name: str, path: Path) -> str:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or ":" in name:
        raise CheckpointError(f"{path} holds {shown(name)}, a name that leads out of the folder: it is not used")
    return str(pure)


def _kind(member: tarfile.TarInfo) -> str:
    kinds = {"a symbolic link": member.issym(), "a hard link": member.islnk(), "a sparse file": member.issparse()}
    return next((kind for kind, true in kinds.items() if true), "a device or pipe" if member.isdev() else "no file")


def _folder_files(folder: Path) -> dict[str, Stretch]:
    files: dict[str, Stretch] = {}
    top = folder.resolve()
    for directory, subdirectories, names in os.walk(folder):
        if len(Path(directory).relative_to(folder).parts) >= DEEPEST - 1:
            subdirectories.clear()
        for name in names:
            if name not in (TRACKER, RANK_FILE, TOKENIZER):
                continue
            path = Path(directory, name)
            if not path.resolve().is_relative_to(top):
                raise CheckpointError(f"{path} is a symbolic link that leads out of {folder}: put the file there")
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(f"{path} is no plain file: fetch the release again")
            inner = path.relative_to(folder).as_posix()
            files[inner] = Stretch(path, inner, 0, status.st_size)
    return files


def _choose(source: Path, kind: Literal["tar", "folder"], files: Mapping[str, Stretch]) -> ReleaseFiles:
    found = [match for match in map(_RANK_PATH.fullmatch, files) if match]
    if not found:
        raise CheckpointError(
            f"{source} has no iter_*/mp_rank_*/{RANK_FILE}: it is not Adept's release, or is cut short, or is a folder "
            "further in than the one with the iter_* folder"
        )
    roots = sorted({match["root"] for match in found})
    if len(roots) > 1:
        raise CheckpointError(f"{source} holds {len(roots)} releases, {some(roots)}: give one of them")
    iteration = _iteration(source, files.get(roots[0] + TRACKER), sorted({match["iteration"] for match in found}))
    ranks = [match for match in found if match["iteration"] == iteration]
    if any(int(match["stage"] or 0) > 0 for match in ranks):
        raise CheckpointError(f"{source} is split into pipeline stages (mp_rank_NN_NNN): only tensor ranks are joined")
    by_rank = {int(match["rank"]): files[match.string] for match in ranks}
    if len(by_rank) < len(ranks) or sorted(by_rank) != list(range(len(ranks))):
        raise CheckpointError(
            f"{source} has the ranks {sorted(int(match['rank']) for match in ranks)} in {iteration}: they must count "
            "from 0 without gaps"
        )
    tokenizers = [name for name in files if PurePosixPath(name).name == TOKENIZER]
    if roots[0] + TOKENIZER in files:
        tokenizers = [roots[0] + TOKENIZER]
    if len(tokenizers) != 1:
        raise CheckpointError(f"{source} has {len(tokenizers)} files named {TOKENIZER}: it needs one")
    return ReleaseFiles(kind, iteration, tuple(by_rank[rank] for rank in sorted(by_rank)), files[tokenizers[0]])


def _iteration(source: Path, tracker: Stretch | None, present: list[str]) -> str:
    """The folder that the tracker file names; without one, the only folder."""
    if tracker is None:
        if len(present) > 1:
            raise CheckpointError(f"{source} has no {TRACKER} and {len(present)} iterations, {some(present)}: keep one")
        return present[0]
    text = tracker.read(at_most=1000).decode("ascii", "replace").strip()
    if text != "release" and not re.fullmatch(r"\d{1,12}", text):
        raise CheckpointError(f"{shown(tracker.name)} says {shown(text)}: it must be a number or 'release'")
    named = text if text == "release" else f"iter_{int(text):07d}"
    if named not in present:
        raise CheckpointError(f"{shown(tracker.name)} names {named}, which {source} lacks: it has {some(present)}")
    return named

"""One tensor out of its ranks' parts, a slice of rows at a time, each slice checked as it passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.checkpoint.convert.names import Rename, Split
from model.checkpoint.convert.release import Rank
from model.checkpoint.convert.torch_archive import SLICE_BYTES
from model.checkpoint.convert.wording import shown
from model.checkpoint.errors import CheckpointError

SOURCE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class JoinedTensor:
    """A tensor to write: `name` in Hugging Face's layout, its first `num_rows` rows, as `dtype`."""

    rename: Rename
    ranks: Sequence[Rank]
    dtype: torch.dtype
    num_rows: int

    @property
    def name(self) -> str:
        return self.rename.target

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_rows, *self.rename.shape[1:])

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def slices(self) -> Iterator[Tensor]:
        """Consecutive rows, contiguous, about SLICE_BYTES each.

        Raises:
            CheckpointError: a value is not finite or does not fit the dtype, or ranks that must agree do not.
        """
        source = self.rename.source
        parts = [rank.archive.tensor(rank.tensors[source]) for rank in self.ranks]
        step = max(1, SLICE_BYTES * len(parts[0]) // max(1, parts[0].nbytes))
        for start, stop, rows in _joined_rows(parts, self.rename.split, self.num_rows, step, self.rename.source):
            if not torch.isfinite(rows).all():
                raise CheckpointError(
                    f"{source} holds NaN or infinity in its rows {start} to {stop - 1}: it is damaged"
                )
            converted = rows.to(self.dtype)
            if self.dtype == torch.float16 and not torch.isfinite(converted).all():
                raise CheckpointError(f"{source} holds values beyond float16's 65504: use bfloat16 or float32")
            yield converted.contiguous()
            for rank in self.ranks:
                rank.archive.release_pages()


def stored_dtype(rename: Rename, ranks: Sequence[Rank]) -> torch.dtype:
    """The dtype that a tensor has in the release.

    Raises:
        CheckpointError: it is none a model is stored in, or differs between ranks.
    """
    dtypes = [rank.tensors[rename.source].dtype for rank in ranks]
    if dtypes[0] not in SOURCE_DTYPES or len(set(dtypes)) > 1:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in SOURCE_DTYPES)
        raise CheckpointError(
            f"{shown(ranks[0].archive.name)} holds {rename.source} as "
            f"{', '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)}: it must be one of {names}, the same "
            "on all ranks"
        )
    return dtypes[0]


def _joined_rows(
    parts: list[Tensor], split: Split, num_rows: int, step: int, name: str
) -> Iterator[tuple[int, int, Tensor]]:
    """First and last-but-one row, and the rows themselves."""
    if split is Split.ROWS:
        base = 0
        for part in parts:
            for start in range(0, min(len(part), num_rows - base), step):
                stop = min(start + step, len(part), num_rows - base)
                yield base + start, base + stop, part[start:stop]
            base += len(part)
        return
    for start in range(0, num_rows, step):
        stop = min(start + step, num_rows)
        if split is Split.COLUMNS:
            yield start, stop, torch.cat([part[start:stop] for part in parts], dim=1)
            continue
        for rank, part in enumerate(parts[1:], 1):
            # NaN is unequal to itself; it is named as what it is by the caller.
            if not torch.equal(part[start:stop].nan_to_num(), parts[0][start:stop].nan_to_num()):
                raise CheckpointError(f"{name} differs between rank 0 and rank {rank}: it must be the same on all")
        yield start, stop, parts[0][start:stop]

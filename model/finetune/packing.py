"""Pack documents into rows of one length; a document is never cut and never sees its neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from model.finetune.encode import EncodedDocument

OPEN_ROWS: Final = 32
"""Rows kept open while packing; more rows waste less padding but mix documents less."""
NOT_SEEN: Final = -1e4
"""Added to attention scores; exp of it is 0 in every dtype, and it is finite in bfloat16."""


@dataclass(frozen=True, slots=True)
class Row:
    """Documents one after the other; `lengths` are theirs, in tokens."""

    token_ids: list[int]
    weights: list[float]
    lengths: list[int]


def pack(documents: Iterable[EncodedDocument], row_length: int) -> Iterator[Row]:
    """Put every document into the fullest of `OPEN_ROWS` open rows that has room; if none has, close the fullest.

    Args:
        documents: each of at most `row_length` tokens.
    """
    rows = [Row([], [], []) for _ in range(OPEN_ROWS)]

    def fill(row: Row) -> int:
        return len(row.token_ids)

    for document in documents:
        size = len(document.token_ids)
        fitting = [row for row in rows if fill(row) + size <= row_length]
        row = max(fitting or rows, key=fill)
        if not fitting:
            yield row
            at = next(index for index, other in enumerate(rows) if other is row)
            row = rows[at] = Row([], [], [])
        row.token_ids.extend(document.token_ids)
        row.weights.extend(document.weights)
        row.lengths.append(size)
    yield from (row for row in rows if row.lengths)


def collate(rows: list[dict[str, Any]], *, pad_id: int) -> dict[str, Tensor]:
    """Rows as one batch, padded to the longest.

    Args:
        rows: fields of :class:`Row`.
        pad_id: any id of the vocabulary; nothing sees it and nothing is learnt from it.

    Returns:
        All [rows, length]: input_ids int64; weights float32; position_ids int64, from 0 in every document; document_ids
        int64, negative on padding.
    """
    length = max(len(row["token_ids"]) for row in rows)
    shape = (len(rows), length)
    input_ids = torch.full(shape, pad_id, dtype=torch.int64)
    weights = torch.zeros(shape)
    position_ids = torch.zeros(shape, dtype=torch.int64)
    # Padding tokens get ids of their own, so that each sees itself and no softmax is empty.
    document_ids = -1 - torch.arange(length).expand(shape).clone()
    for index, row in enumerate(rows):
        used = len(row["token_ids"])
        input_ids[index, :used] = torch.tensor(row["token_ids"])
        weights[index, :used] = torch.tensor(row["weights"])
        lengths = torch.tensor(row["lengths"])
        position_ids[index, :used] = torch.cat([torch.arange(size) for size in row["lengths"]])
        document_ids[index, :used] = torch.repeat_interleave(lengths)
    return {
        "input_ids": input_ids,
        "weights": weights,
        "position_ids": position_ids,
        "document_ids": document_ids,
    }


def attention_bias(document_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Zero where a token sees itself or an earlier one of its document, else :data:`NOT_SEEN`.

    Args:
        document_ids: [rows, length].

    Returns:
        [rows, 1, length, length] of `dtype`, on the same device.
    """
    same = document_ids[:, :, None] == document_ids[:, None, :]
    seen = same.tril_()
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, NOT_SEEN)[:, None]

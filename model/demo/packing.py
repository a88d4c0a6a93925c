"""Pack tokenised documents into rows of one length; a document is never cut and never sees its neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from tokenizers import Tokenizer

from model.demo.corpus import Document, documents, text_of

OPEN_ROWS: Final = 32
"""Rows kept open while packing; more rows waste less padding but mix documents less."""
DOCUMENTS_AT_ONCE: Final = 512
NOT_SEEN: Final = -1e4
"""Added to attention scores; exp of it is 0 in every dtype, and it is finite in bfloat16."""


@dataclass(frozen=True)
class Batch:
    """Rows of packed documents."""

    input_ids: torch.Tensor  # [rows, row_length] int64
    weights: torch.Tensor  # [rows, row_length] float32: how much predicting this token counts
    positions: torch.Tensor  # [rows, row_length] int64, from 0 in every document
    document_ids: torch.Tensor  # [rows, row_length] int64, negative on padding

    def every(self, count: int, first: int) -> "Batch":
        """Take every ``count``-th row from row ``first`` on."""
        rows = slice(first, None, count)
        return Batch(self.input_ids[rows], self.weights[rows], self.positions[rows], self.document_ids[rows])

    def attention_bias(self, dtype: torch.dtype) -> torch.Tensor:
        """Zero where a token sees another of its document, else very low.  # [rows, 1, row_length, row_length]"""
        same = self.document_ids[:, :, None] == self.document_ids[:, None, :]
        length = self.input_ids.shape[1]
        seen = same & torch.ones(length, length, dtype=torch.bool).tril()
        return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, NOT_SEEN)[:, None]


def _token_weights(document: Document, offsets: list[tuple[int, int]]) -> list[float]:
    """Give each token the weight of the span its last character lies in."""
    ends, total = [], 0
    for span in document:
        total += len(span.text)
        ends.append(total)
    weights, at = [], 0
    for _, end in offsets:
        while at + 1 < len(ends) and ends[at] < end:
            at += 1
        weights.append(document[at].weight)
    return weights


def _tokenised(tokenizer: Tokenizer, seed: int, row_length: int) -> Iterator[tuple[list[int], list[float]]]:
    stream = documents(seed)
    while True:
        chunk = [next(stream) for _ in range(DOCUMENTS_AT_ONCE)]
        encodings = tokenizer.encode_batch([text_of(document) for document in chunk], add_special_tokens=False)
        for document, encoding in zip(chunk, encodings, strict=True):
            if len(encoding.ids) <= row_length:
                yield encoding.ids, _token_weights(document, encoding.offsets)


def batches(tokenizer: Tokenizer, *, seed: int, rows: int, row_length: int, pad_id: int) -> Iterator[Batch]:
    """Yield batches without end, the same ones for the same seed.

    Every document goes into the fullest of ``OPEN_ROWS`` open rows that still has room; if none has, the fullest row
    is closed.
    """
    open_rows: list[list[tuple[list[int], list[float]]]] = [[] for _ in range(OPEN_ROWS)]
    used = [0] * OPEN_ROWS
    closed: list[list[tuple[list[int], list[float]]]] = []
    for ids, weights in _tokenised(tokenizer, seed, row_length):
        fitting = [row for row in range(OPEN_ROWS) if used[row] + len(ids) <= row_length]
        row = max(fitting, key=lambda index: used[index]) if fitting else max(range(OPEN_ROWS), key=lambda i: used[i])
        if not fitting:
            closed.append(open_rows[row])
            open_rows[row], used[row] = [], 0
        open_rows[row].append((ids, weights))
        used[row] += len(ids)
        if len(closed) == rows:
            yield _batch(closed, row_length, pad_id)
            closed = []


def _batch(rows: list[list[tuple[list[int], list[float]]]], row_length: int, pad_id: int) -> Batch:
    shape = (len(rows), row_length)
    input_ids = torch.full(shape, pad_id, dtype=torch.int64)
    weights = torch.zeros(shape)
    positions = torch.zeros(shape, dtype=torch.int64)
    # Padding tokens get ids of their own, so that each sees itself and no softmax is empty.
    document_ids = -1 - torch.arange(row_length).expand(shape).clone()
    for index, row in enumerate(rows):
        at = 0
        for number, (ids, token_weights) in enumerate(row):
            stretch = slice(at, at + len(ids))
            input_ids[index, stretch] = torch.tensor(ids)
            weights[index, stretch] = torch.tensor(token_weights)
            weights[index, at] = 0.0  # nothing comes before a document's first token
            positions[index, stretch] = torch.arange(len(ids))
            document_ids[index, stretch] = number
            at += len(ids)
    return Batch(input_ids, weights, positions, document_ids)

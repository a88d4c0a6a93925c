"""The tensors that a captured step reads and writes, and which request stands in which row of them.

A row keeps its request while it can: then a step needs nothing from the host but now and then a block number, because
the step itself moves the row on. What the device computed last and the host has not seen yet, the next token, is
taken from the row it was computed in, also when the request changes rows. Rows without a request compute one token at
the beginning of the null block, which nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.sampling import DrawParams
from model.engine.block_pool import NULL_BLOCK
from model.engine.graph_backend import GraphBackend
from model.engine.request import Request

FROM_HOST = -1
# Rows of `numbers`.
SOURCE, GIVEN, POSITION, ADVANCE, TOP_K, SEED, STEP, TEMPERATURE, TOP_P, MIN_P = range(10)


@dataclass(slots=True)
class _Row:
    """What the device knows of a request: its table as the list that the request holds, the number of blocks of it
    that were written, and the position computed next."""

    request: Request
    table: list[int]
    num_blocks: int
    position: int


class DecodeBuffers:
    """Static tensors for up to `num_rows` requests of up to `max_blocks` blocks, and their host's view.

    Attributes:
        numbers: [10, num_rows] int64. SOURCE: row of `tokens` that holds the token to compute, or FROM_HOST; GIVEN: the
            token then; POSITION of the token in its sequence; ADVANCE: 1 with a request, 0 without; then what the next
            token is drawn by, see `draw_params`.
        tables: [num_rows, max_blocks] int64, the KV blocks.
        tokens: [num_rows] int64, what the last step chose.
        results: [2, num_rows] int64: the same, and whether the row's numbers were finite.
    """

    def __init__(self, *, num_rows: int, max_blocks: int, block_size: int, device: torch.device) -> None:
        self.num_rows = num_rows
        self.max_blocks = max_blocks
        self.block_size = block_size
        self.device = device
        self.numbers = torch.zeros(10, num_rows, dtype=torch.int64, device=device)
        self.numbers[SOURCE] = FROM_HOST
        self.tables = torch.full((num_rows, max_blocks), NULL_BLOCK, dtype=torch.int64, device=device)
        self.tokens = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self.results = torch.zeros(2, num_rows, dtype=torch.int64, device=device)
        self.starts = torch.arange(num_rows + 1, dtype=torch.int64, device=device)
        self._rows: list[_Row | None] = [None] * num_rows

    def place(self, requests: Sequence[Request], batch_size: int, backend: GraphBackend) -> list[int]:
        """Bring the device's first `batch_size` rows to where these requests are, whose last token may still be on its
        way there (`num_in_flight`).

        Returns:
            The row of each request.
        """
        before = {id(row.request): index for index, row in enumerate(self._rows) if row is not None}
        wanted = {id(request) for request in requests}
        changed = False
        for index, row in enumerate(self._rows):
            if row is not None and (index >= batch_size or id(row.request) not in wanted):
                self._rows[index] = None
                changed = True
        free = iter([index for index in range(batch_size) if self._rows[index] is None])
        table_places: list[int] = []
        table_values: list[int] = []
        placed: list[int] = []
        for request in requests:
            index = before.get(id(request), batch_size)
            if index >= batch_size:
                index = next(free)
            placed.append(index)
            position = request.num_computed_tokens + request.num_in_flight
            row = self._rows[index]
            if row is None or row.table is not request.block_table or row.position != position:
                changed = True
                row = self._rows[index] = _Row(request, request.block_table, 0, position)
            count = len(row.table)
            if count > row.num_blocks:
                first = index * self.max_blocks
                table_places += range(first + row.num_blocks, first + count)
                table_values += row.table[row.num_blocks :]
                row.num_blocks = count
            row.position = position + 1
        if changed:
            for index, row in enumerate(self._rows):
                if row is None:
                    table_places.append(index * self.max_blocks)
                    table_values.append(NULL_BLOCK)
            backend.upload(self.numbers, self._numbers(requests, placed, before))
        if table_places:
            backend.upload_at(
                self.tables.view(-1),
                torch.from_numpy(np.array(table_places, dtype=np.int64)),
                torch.from_numpy(np.array(table_values, dtype=np.int64)),
            )
        return placed

    def draw_params(self, batch_size: int) -> DrawParams:
        """Of the first rows, as views: TOP_K, SEED, and STEP, the place in the answer, are whole numbers; of
        TEMPERATURE, TOP_P and MIN_P, `numbers` holds the bits of a float64."""
        numbers = self.numbers[:, :batch_size]
        temperature, top_p, min_p = numbers[TEMPERATURE : MIN_P + 1].view(torch.float64)
        return DrawParams(
            temperature=temperature,
            top_k=numbers[TOP_K],
            top_p=top_p,
            min_p=min_p,
            seed=numbers[SEED],
            step=numbers[STEP],
        )

    def forget(self) -> None:
        """The device may not hold what the host thinks: begin anew."""
        self._rows = [None] * self.num_rows

    def _numbers(self, requests: Sequence[Request], placed: Sequence[int], before: dict[int, int]) -> Tensor:
        numbers = np.zeros((10, self.num_rows), dtype=np.int64)
        numbers[SOURCE] = FROM_HOST
        shares = numbers.view(np.float64)
        for request, index in zip(requests, placed, strict=True):
            position = request.num_computed_tokens + request.num_in_flight
            if request.num_in_flight:
                numbers[SOURCE, index] = before[id(request)]
            else:
                numbers[GIVEN, index] = request.token_ids[position]
            numbers[POSITION, index] = position
            numbers[ADVANCE, index] = 1
            params = request.params
            assert params is not None
            numbers[TOP_K, index] = params.top_k
            numbers[SEED, index] = request.seed
            numbers[STEP, index] = request.num_generated + request.num_in_flight
            shares[TEMPERATURE, index] = params.temperature
            shares[TOP_P, index] = params.top_p
            shares[MIN_P, index] = params.min_p
        return torch.from_numpy(numbers)

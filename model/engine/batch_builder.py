"""From what the scheduler chose to the tensors of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.engine.block_pool import NULL_BLOCK
from model.engine.scheduler import Scheduled
from model.layers.forward_batch import ForwardBatch


@dataclass(frozen=True, slots=True)
class StepRows:
    """What the rows of `ForwardBatch.logits_indices` are for: first one row for each item of `sampled`, then, for
    each (item, targets) of `scored`, one row a target."""

    sampled: list[Scheduled]
    scored: list[tuple[Scheduled, tuple[int, ...]]]


def build_batch(
    scheduled: Sequence[Scheduled], *, block_size: int, device: torch.device
) -> tuple[ForwardBatch, StepRows]:
    """Pack the scheduled tokens end to end.

    Args:
        scheduled: at least one item, blocks held.
        block_size: tokens in a KV block.
    """
    input_ids: list[int] = []
    positions: list[int] = []
    rotary_lens: list[int] = []
    slots: list[int] = []
    starts = [0]
    seq_lens: list[int] = []
    sampled_rows: list[int] = []
    scored_rows: list[int] = []
    rows = StepRows([], [])
    for item in scheduled:
        request, begin = item.request, item.request.num_computed_tokens
        end = begin + item.num_new_tokens
        first_row = len(input_ids)
        input_ids += request.token_ids[begin:end]
        positions += range(begin, end)
        rotary_lens += (max(position + 1, request.num_prompt_tokens) for position in range(begin, end))
        table = request.block_table
        slots += (table[p // block_size] * block_size + p % block_size for p in range(begin, end))
        starts.append(len(input_ids))
        seq_lens.append(end)
        if request.params is None:
            first_target = max(begin, request.first_target_position)
            if first_target < end:
                offset = request.first_target_position
                rows.scored.append((item, request.targets[first_target - offset : end - offset]))
                scored_rows += range(first_row + first_target - begin, first_row + end - begin)
        elif item.reaches_end:
            rows.sampled.append(item)
            sampled_rows.append(len(input_ids) - 1)
    max_blocks = max(len(item.request.block_table) for item in scheduled)
    tables = [
        item.request.block_table + [NULL_BLOCK] * (max_blocks - len(item.request.block_table)) for item in scheduled
    ]

    def tensor(values: list[int] | list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64).to(device, non_blocking=True)

    batch = ForwardBatch(
        input_ids=tensor(input_ids),
        positions=tensor(positions),
        rotary_lens=tensor(rotary_lens),
        slot_mapping=tensor(slots),
        query_start_loc=tensor(starts),
        seq_lens=tensor(seq_lens),
        block_tables=tensor(tables),
        logits_indices=tensor(sampled_rows + scored_rows),
        max_query_len=max(item.num_new_tokens for item in scheduled),
        max_seq_len=max(seq_lens),
    )
    return batch, rows

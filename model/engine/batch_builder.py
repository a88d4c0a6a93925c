"""From what the scheduler chose to the tensors of a step."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch

from kernels.linear import padded_rows
from kernels.paged_attention_cpu import CpuAttentionPlan, plan_attention_cpu
from model.engine.block_pool import NULL_BLOCK
from model.engine.request import Request
from model.engine.scheduler import Scheduled
from model.layers.attention_backends import AttentionBackend
from model.layers.attention_plan import AttentionPlan, part_of, plan_attention
from model.layers.forward_batch import ForwardBatch, LastRows

LARGEST_SHARE_LAST = 0.5
"""Of the new tokens, where it pays to compute the last layer for those alone whose output is wanted."""


@dataclass(frozen=True, slots=True)
class StepRows:
    """What the rows of `ForwardBatch.logits_indices` are for; a row may serve several, or none: the last token of a
    chunk has one in any case, because it has seen its whole sequence, and what is not finite in it shows there.

    Attributes:
        sampled: (request, rows): the next token comes from the first row, and from the row after it while the drafts
            between them turn out right. A trunk's forks share its row.
        scored: (request, row, target).
        hidden: (request, row).
    """

    sampled: list[tuple[Request, range]] = field(default_factory=list)
    scored: list[tuple[Request, int, int]] = field(default_factory=list)
    hidden: list[tuple[Request, int]] = field(default_factory=list)


def packing_order(
    scheduled: Sequence[Scheduled], *, device: torch.device, attention: AttentionBackend | None = None
) -> list[Scheduled]:
    """The items in the order that costs least: what attention takes together stands together.

    On a GPU that is what goes to one back-end, on a CPU what `plan_attention_cpu` puts into a group.
    """
    if attention is not None:
        return sorted(
            scheduled,
            key=lambda item: part_of(item.num_new_tokens, item.request.num_computed_tokens + item.num_new_tokens),
        )
    if device.type == "cpu":
        return sorted(scheduled, key=lambda item: (item.num_new_tokens, item.request.num_computed_tokens))
    return list(scheduled)


def build_batch(
    scheduled: Sequence[Scheduled],
    *,
    block_size: int,
    device: torch.device,
    pads: bool = False,
    attention: AttentionBackend | None = None,
) -> tuple[ForwardBatch, StepRows]:
    """Pack the scheduled tokens end to end, as they come; :func:`packing_order` is the order for speed.

    Args:
        scheduled: at least one item, blocks held.
        block_size: tokens in a KV block.
        pads: whether tokens that mean nothing follow, up to a number that the products of `kernels.linear` are made
            for. They write to the null block.
        attention: what runs it on a GPU; `None`: the reference.
    """

    def tensor(values: list[int]) -> torch.Tensor:
        # Several times faster than torch.tensor, which looks at every number.
        return torch.from_numpy(np.array(array("q", values))).to(device, non_blocking=True)

    input_ids: list[int] = []
    positions: list[int] = []
    rotary_lens: list[int] = []
    slots: list[int] = []
    starts = [0]
    seq_lens: list[int] = []
    wanted: list[int] = []  # packed tokens whose output is needed
    num_last: list[int] = []  # each item's tokens from the first of these on
    rows = StepRows()
    vector_rows: list[int] = []
    vectors: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    for item in scheduled:
        request, begin = item.request, item.request.num_computed_tokens
        end = begin + item.num_new_tokens
        first = len(input_ids)
        tokens = request.token_ids
        input_ids += tokens[begin : end - item.num_draft_tokens]
        input_ids += request.draft_token_ids[: item.num_draft_tokens]
        positions += range(begin, end)
        table = request.block_table
        if item.num_new_tokens == 1:
            rotary_lens.append(max(end, request.num_prompt_tokens))
            slots.append(table[begin // block_size] * block_size + begin % block_size)
        else:
            rotary_lens += (max(position + 1, request.num_prompt_tokens) for position in range(begin, end))
            slots += (table[p // block_size] * block_size + p % block_size for p in range(begin, end))
        starts.append(len(input_ids))
        seq_lens.append(end)
        if request.vectors is not None:
            chosen = slice(bisect_left(request.vectors.positions, begin), bisect_left(request.vectors.positions, end))
            vector_rows += (first + position - begin for position in request.vectors.positions[chosen])
            vectors.append(request.vectors.values[chosen])
        num_before = len(wanted)
        _add_rows(item, first, wanted, rows)
        num_last.append(len(input_ids) - wanted[num_before] if len(wanted) > num_before else 0)
    num_padding = padded_rows(len(input_ids)) - len(input_ids) if pads else 0
    for values in (input_ids, positions, rotary_lens):
        values += [0] * num_padding
    slots += [NULL_BLOCK * block_size] * num_padding
    tables: list[int] = []
    max_blocks = max(len(item.request.block_table) for item in scheduled)
    for item in scheduled:
        tables += item.request.block_table
        tables += [NULL_BLOCK] * (max_blocks - len(item.request.block_table))
    block_tables = tensor(tables).view(len(scheduled), max_blocks)

    def cpu_plan(query_start_loc: list[int]) -> CpuAttentionPlan | None:
        if device.type != "cpu":
            return None
        return plan_attention_cpu(query_start_loc, seq_lens, block_tables, block_size=block_size)

    def attention_plan(query_start_loc: list[int]) -> AttentionPlan | None:
        if attention is None:
            return None
        return plan_attention(query_start_loc, seq_lens, block_tables, block_size=block_size, backend=attention)

    def last_rows() -> LastRows | None:
        if not all(num_last) or sum(num_last) > LARGEST_SHARE_LAST * starts[-1]:
            return None
        last_starts = [0, *accumulate(num_last)]
        kept = [row for end, count in zip(starts[1:], num_last, strict=True) for row in range(end - count, end)]
        place = {row: index for index, row in enumerate(kept)}
        if pads:
            kept += [0] * (padded_rows(len(kept)) - len(kept))
        return LastRows(
            rows=tensor(kept),
            query_start_loc=tensor(last_starts),
            logits_indices=tensor([place[row] for row in wanted]),
            max_query_len=max(num_last),
            cpu_plan=cpu_plan(last_starts),
            attention_plan=attention_plan(last_starts),
        )

    batch = ForwardBatch(
        input_ids=tensor(input_ids),
        positions=tensor(positions),
        rotary_lens=tensor(rotary_lens),
        slot_mapping=tensor(slots),
        query_start_loc=tensor(starts),
        seq_lens=tensor(seq_lens),
        block_tables=block_tables,
        logits_indices=tensor(wanted),
        max_query_len=max(item.num_new_tokens for item in scheduled),
        max_seq_len=max(seq_lens),
        vector_rows=tensor(vector_rows) if vector_rows else None,
        vectors=torch.from_numpy(np.concatenate(vectors)).to(device) if vector_rows else None,
        cpu_plan=cpu_plan(starts),
        attention_plan=attention_plan(starts),
        last=last_rows(),
    )
    return batch, rows


def _add_rows(item: Scheduled, first: int, wanted: list[int], rows: StepRows) -> None:
    """Note what is wanted from an item whose first packed token is `first`."""
    request, begin = item.request, item.request.num_computed_tokens
    end = begin + item.num_new_tokens
    first_target, next_target = request.first_target_position, request.next_target_position
    for position in range(max(begin, next_target), min(end, first_target + len(request.targets))):
        rows.scored.append((request, len(wanted), request.targets[position - first_target]))
        wanted.append(first + position - begin)
    last = first + item.num_new_tokens - 1
    if not item.reaches_end:
        if not wanted or wanted[-1] != last:
            wanted.append(last)
        return
    row = len(wanted)
    ends = range(row, row + 1 + item.num_draft_tokens)
    if request.params is not None:
        rows.sampled.append((request, ends))
    elif request.wants_hidden_state:
        rows.hidden.append((request, row))
    elif request.forks:
        for fork in request.forks:
            if fork.params is not None:
                rows.sampled.append((fork, ends))
            elif fork.wants_hidden_state:
                rows.hidden.append((fork, row))
            else:
                rows.scored.append((fork, row, fork.targets[0]))
    else:
        return
    wanted += range(last - item.num_draft_tokens, last + 1)

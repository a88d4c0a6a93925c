"""A step's sequences cut into runs that one attention back-end takes together, worked out once for all layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from kernels.varlen_attention import PAGE_MULTIPLE, PackedSequences
from model.layers.attention_backends import AttentionBackend

SHORT_QUERY = 8
"""Most new tokens of a sequence that count as an answer being written: as many drafts are checked at once. The same as
`kernels.gpu.paged_attention.SHORT_QUERY`, which cannot be imported without Triton."""
MOST_GATHERED = 32_768
"""Tokens whose keys and values are copied for one call, unless a single sequence is longer: 0.5 GB of Persimmon-8B's in
bfloat16, which the allocator takes beside the cache."""
PACKED = ("flash-attn", "torch-varlen")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Adjoining sequences that one back-end takes in one call.

    Attributes:
        backend: its name. sequences: of the batch. rows: their packed new tokens.
        max_query_len, max_seq_len: bounds on theirs.
        packed: for the back-ends that want it.
    """

    backend: str
    sequences: slice
    rows: slice
    max_query_len: int
    max_seq_len: int
    packed: PackedSequences | None = None


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """The runs of one step, in the order of its sequences."""

    runs: tuple[Run, ...]


def plan_attention(
    query_start_loc: Sequence[int],
    seq_lens: Sequence[int],
    block_tables: Tensor,
    *,
    block_size: int,
    backend: AttentionBackend,
) -> AttentionPlan:
    """The plan of one step. Steps whose sequences are sorted by `part_of` need the fewest runs.

    Args:
        query_start_loc: [num_seqs + 1] running sum of new tokens.
        seq_lens: [num_seqs] tokens in each sequence after the step.
        block_tables: [num_seqs, max_blocks] int64, on the model's device.
    """
    runs: list[Run] = []
    first = 0
    while first < len(seq_lens):
        name = _backend_of(first, query_start_loc, seq_lens, backend)
        reads_pages = name not in PACKED or (name == "flash-attn" and block_size % PAGE_MULTIPLE == 0)
        last, total = first + 1, seq_lens[first]
        while last < len(seq_lens) and _backend_of(last, query_start_loc, seq_lens, backend) == name:
            if not reads_pages and total + seq_lens[last] > MOST_GATHERED:
                break
            # Our kernel's tiles suit either few new tokens or many.
            if name == "triton" and _is_short(last, query_start_loc) != _is_short(first, query_start_loc):
                break
            total += seq_lens[last]
            last += 1
        starts, lengths = query_start_loc[first : last + 1], seq_lens[first:last]
        tables = block_tables[first:last]
        counts = [end - start for start, end in pairwise(starts)]
        runs.append(
            Run(
                backend=name,
                sequences=slice(first, last),
                rows=slice(starts[0], starts[-1]),
                max_query_len=max(counts),
                max_seq_len=max(lengths),
                packed=_pack(counts, lengths, tables, block_size, reads_pages) if name in PACKED else None,
            )
        )
        first = last
    return AttentionPlan(tuple(runs))


def plan_decoding(num_seqs: int, max_seq_len: int, *, backend: AttentionBackend) -> AttentionPlan:
    """The plan of any step of `num_seqs` sequences, one new token each, of up to `max_seq_len` tokens: for a captured
    graph, so for a back-end that `can_capture_decode`."""
    every = slice(0, num_seqs)
    run = Run(backend=backend.decode, sequences=every, rows=every, max_query_len=1, max_seq_len=max_seq_len)
    return AttentionPlan((run,))


def part_of(num_new_tokens: int, seq_len: int) -> int:
    """0 for an answer being written, 1 for a prompt after cached tokens, 2 for a prompt with none: a key to sort by."""
    return 0 if num_new_tokens <= SHORT_QUERY else 1 if num_new_tokens < seq_len else 2


def _is_short(index: int, query_start_loc: Sequence[int]) -> bool:
    return query_start_loc[index + 1] - query_start_loc[index] <= SHORT_QUERY


def _backend_of(index: int, query_start_loc: Sequence[int], seq_lens: Sequence[int], backend: AttentionBackend) -> str:
    part = part_of(query_start_loc[index + 1] - query_start_loc[index], seq_lens[index])
    return (backend.decode, backend.continued, backend.prompt)[part]


def _pack(
    counts: Sequence[int], lengths: Sequence[int], tables: Tensor, block_size: int, reads_pages: bool
) -> PackedSequences:
    device, total = tables.device, sum(lengths)
    key_starts = torch.tensor([0, *accumulate(lengths)], device=device)
    slots = None
    if not reads_pages:
        indices = torch.arange(len(lengths), device=device)
        # With its size given, nobody waits for the device.
        sequence = torch.repeat_interleave(indices, key_starts.diff(), output_size=total)
        places = torch.arange(total, device=device) - key_starts[sequence]
        slots = tables[sequence, places // block_size] * block_size + places % block_size
    return PackedSequences(
        query_starts=torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=device),
        key_starts=key_starts.int(),
        max_query_len=max(counts),
        max_seq_len=max(lengths),
        slots=slots,
        block_tables=tables.int() if reads_pages else None,
    )

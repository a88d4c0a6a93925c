"""Attention over a paged KV cache on a CPU, in torch: the reference's result, with what all layers share worked out
once a step. `kernels.cpu.paged_attention` takes from the same plan the tokens that are better off without it.

Four things make it faster than `paged_attention_reference`. A prompt computed from its first token attends to its own
new keys, without reading them back from the cache; those of one length go together, but others are not padded: copying
them to padded rows and back costs more than calls of their own. Sequences with cached tokens go together where they
are of like length, so that little padding is computed. Gathered keys and values go into memory that is kept: taking
fresh memory from the system for them, in every layer, costs more than the copying (page faults). Masks are made once a
step.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHORTEST_IN_GROUP = 0.75
"""Share of the longest sequence's blocks that another needs to be in its group."""
LARGEST_GROUP = 2048
"""Tokens of gathered keys and values in a group of several sequences: what is gathered should still be in the
processor's caches when it is read, and every group costs a call a layer and 40 us of planning (results/LOG.md)."""
FEW_NEW_TOKENS = 4
MOST_PAIRS_ALONE = 8192
"""A sequence's new tokens attend each by itself, where there is a kernel for that, if they are few, or see no more
tokens in all: prompts of up to 127 tokens. Against torch's attention with two threads (AMD EPYC, heads of 32, 64 and
128): 1.1 to 3.5 times faster up to there, 1.8 to 2.4 for 4 tokens after 300, 0.6 to 0.9 for 64 after 300."""
LARGEST_KEPT_BIAS = 1 << 22  # entries; larger ones (of prompts) are made anew in every layer


class Workspace:
    """Memory that gathered keys and values go into, kept and grown."""

    def __init__(self) -> None:
        self._memory: dict[torch.dtype, Tensor] = {}

    def take(self, count: int, dtype: torch.dtype) -> Tensor:
        """[count] elements, valid until the next call."""
        memory = self._memory.get(dtype)
        if memory is None or len(memory) < count:
            memory = self._memory[dtype] = torch.empty(count, dtype=dtype)
        return memory[:count]


@dataclass(slots=True)
class _Group:
    """Sequences with as many new tokens each, `query_len`.

    Attributes:
        rows: packed new tokens, [num_seqs * query_len]; a slice where they follow one another.
        blocks: [num_seqs * num_blocks] int64, or the slice of a single sequence's blocks where they follow one another
            in the cache, so that nothing need be gathered; `None` if all tokens are new.
        distances: [num_seqs, query_len, num_blocks * block_size] int64, key position less query position.
        visible: [num_seqs, 1, query_len, num_blocks * block_size] bool; `None` if a query sees every key.
        bias, mask: ALiBi's and what `visible` says, once made.
    """

    rows: Tensor | slice
    num_seqs: int
    query_len: int
    blocks: Tensor | slice | None
    distances: Tensor | None
    visible: Tensor | None
    bias: Tensor | None = None
    mask: Tensor | None = None

    def mask_in(self, dtype: torch.dtype) -> Tensor | None:
        """`visible` as torch's attention adds it, [num_seqs, 1, query_len, num_keys]; the same in all layers."""
        if self.visible is None or self.visible.numel() > LARGEST_KEPT_BIAS:
            return self.visible  # torch turns it in every layer
        if self.mask is None or self.mask.dtype != dtype:
            self.mask = torch.zeros(self.visible.shape, dtype=dtype).masked_fill_(~self.visible, -torch.inf)
        return self.mask


@dataclass(frozen=True, kw_only=True, slots=True)
class TokensAlone:
    """New tokens that attend each by itself, as `kernels.cpu.paged_attention` takes them.

    Attributes:
        rows: [num_rows] int64, which of the step's rows they are. sequences: [num_rows] int64, their rows of
            `block_tables`.
        lengths: [num_rows] int64, how many tokens each sees, itself included; total_length: their sum. longest: the
            largest.
        block_tables: [.., max_blocks] int64.
    """

    rows: Tensor
    sequences: Tensor
    lengths: Tensor
    total_length: int
    longest: int
    block_tables: Tensor


@dataclass(slots=True)
class CpuAttentionPlan:
    """How the sequences of one step are taken together.

    Attributes:
        num_tokens: new tokens of all sequences.
        longer: groups of the sequences with many new tokens.
        alone: the new tokens of those with few; `None` if there are none.
    """

    num_tokens: int
    longer: list[_Group]
    alone: TokensAlone | None
    _groups_of_few: Callable[[], list[_Group]]
    _groups: list[_Group] | None = None

    def groups(self) -> list[_Group]:
        """Those of all sequences; worked out when they are first asked for."""
        if self._groups is None:
            self._groups = [*self.longer, *self._groups_of_few()]
        return self._groups


def plan_attention_cpu(
    query_start_loc: Sequence[int], seq_lens: Sequence[int], block_tables: Tensor, *, block_size: int
) -> CpuAttentionPlan:
    """The plan for one step.

    Args:
        query_start_loc: [num_seqs + 1] running sum of new tokens; where sequences with as many follow one another,
            nothing need be copied together.
        seq_lens: [num_seqs] tokens in each sequence after the step.
        block_tables: [num_seqs, max_blocks] int64, any block where a sequence has none.
    """
    few: list[int] = []
    many: list[int] = []
    for index in range(len(seq_lens)):
        num_new = query_start_loc[index + 1] - query_start_loc[index]
        num_pairs = num_new * (2 * seq_lens[index] - num_new + 1) // 2
        (few if num_new <= FEW_NEW_TOKENS or num_pairs <= MOST_PAIRS_ALONE else many).append(index)

    def groups_of(chosen: list[int]) -> list[_Group]:
        return _groups(chosen, query_start_loc, seq_lens, block_tables, block_size)

    return CpuAttentionPlan(
        num_tokens=query_start_loc[-1],
        longer=groups_of(many),
        alone=_alone(few, query_start_loc, seq_lens, block_tables) if few else None,
        _groups_of_few=lambda: groups_of(few),
    )


def _alone(
    chosen: list[int], query_start_loc: Sequence[int], seq_lens: Sequence[int], block_tables: Tensor
) -> TokensAlone:
    rows: list[int] = []
    sequences: list[int] = []
    lengths: list[int] = []
    for index in chosen:
        num_new = query_start_loc[index + 1] - query_start_loc[index]
        rows += range(query_start_loc[index], query_start_loc[index + 1])
        sequences += [index] * num_new
        lengths += range(seq_lens[index] - num_new + 1, seq_lens[index] + 1)
    numbers = torch.from_numpy(np.array(array("q", rows + sequences + lengths))).view(3, -1)
    return TokensAlone(
        rows=numbers[0],
        sequences=numbers[1],
        lengths=numbers[2],
        total_length=sum(lengths),
        longest=max(lengths),
        block_tables=block_tables,
    )


def _groups(
    chosen: list[int],
    query_start_loc: Sequence[int],
    seq_lens: Sequence[int],
    block_tables: Tensor,
    block_size: int,
) -> list[_Group]:
    whole: dict[int, list[int]] = {}  # by the number of new tokens
    alike: dict[int, list[int]] = {}
    for index in chosen:
        num_new = query_start_loc[index + 1] - query_start_loc[index]
        (whole if num_new == seq_lens[index] else alike).setdefault(num_new, []).append(index)
    groups = [
        _Group(_rows(same, query_len, query_start_loc), len(same), query_len, None, None, None)
        for query_len, same in whole.items()
    ]
    for left in alike.values():
        left.sort(key=lambda index: -seq_lens[index])
        while left:
            longest = -(-seq_lens[left[0]] // block_size)
            count = sum(-(-seq_lens[index] // block_size) >= SHORTEST_IN_GROUP * longest for index in left)
            count = min(count, max(1, LARGEST_GROUP // (longest * block_size)))
            groups.append(_group(sorted(left[:count]), query_start_loc, seq_lens, block_tables, block_size))
            left = left[count:]
    return groups


def _rows(chosen: list[int], query_len: int, query_start_loc: Sequence[int]) -> Tensor | slice:
    """The packed new tokens of the sequences chosen, which have `query_len` each."""
    starts = [query_start_loc[index] for index in chosen]
    if starts == list(range(starts[0], starts[0] + len(chosen) * query_len, query_len)):
        return slice(starts[0], starts[0] + len(chosen) * query_len)
    return (torch.tensor(starts)[:, None] + torch.arange(query_len)).flatten()


def _group(
    chosen: list[int],
    query_start_loc: Sequence[int],
    seq_lens: Sequence[int],
    block_tables: Tensor,
    block_size: int,
) -> _Group:
    query_len = query_start_loc[chosen[0] + 1] - query_start_loc[chosen[0]]
    num_blocks = max(-(-seq_lens[index] // block_size) for index in chosen)
    lengths = torch.tensor([seq_lens[index] for index in chosen])
    query_positions = lengths[:, None] + torch.arange(-query_len, 0)  # [num_seqs, query_len]
    distances = torch.arange(num_blocks * block_size) - query_positions[:, :, None]
    visible = distances <= 0
    blocks = block_tables[chosen, :num_blocks].flatten()
    return _Group(
        rows=_rows(chosen, query_len, query_start_loc),
        num_seqs=len(chosen),
        query_len=query_len,
        blocks=_as_slice(blocks) if len(chosen) == 1 else blocks,
        distances=distances,
        visible=None if bool(visible.all()) else visible[:, None],
    )


def _as_slice(blocks: Tensor) -> Tensor | slice:
    first = int(blocks[0])
    in_order = bool((blocks == torch.arange(first, first + len(blocks))).all())
    return slice(first, first + len(blocks)) if in_order else blocks


def paged_attention_cpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    plan: CpuAttentionPlan,
    workspace: Workspace,
    scale: float,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """As `paged_attention_reference`, for a plan of the same step.

    Args:
        query: [num_tokens, num_heads, head_dim]; rows after those of the plan are padding, for which the result is 0.
        key, value: [num_tokens, num_kv_heads, head_dim], the new tokens', which are in the cache too.
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        scale: factor on the dot products.
        alibi_slopes: [num_heads] float32.

    Returns:
        [num_tokens, num_heads, head_dim], query's dtype.
    """
    output = empty_output(len(query), query, plan)
    attend_groups_(
        query,
        key,
        value,
        key_cache,
        value_cache,
        groups=plan.groups(),
        output=output,
        workspace=workspace,
        scale=scale,
        alibi_slopes=alibi_slopes,
    )
    return output


def empty_output(num_rows: int, query: Tensor, plan: CpuAttentionPlan) -> Tensor:
    """What attention's result goes into: [num_rows, num_heads, head_dim] in one piece of memory, 0 for padding rows
    and anything for the others."""
    output = query.new_empty(num_rows, *query.shape[1:])
    if plan.num_tokens < num_rows:
        output[plan.num_tokens :] = 0
    return output


def attend_groups_(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    groups: Sequence[_Group],
    output: Tensor,
    workspace: Workspace,
    scale: float,
    alibi_slopes: Tensor | None,
) -> None:
    """:func:`paged_attention_cpu` for some groups of a plan: their rows of `output` are written."""
    for group in groups:
        shape = (group.num_seqs, group.query_len, *query.shape[1:])
        queries = query[group.rows].view(shape).transpose(1, 2)  # [num_seqs, num_heads, query_len, head_dim]
        if group.blocks is None:
            keys, values = (
                new[group.rows].view(group.num_seqs, -1, *new.shape[1:]).transpose(1, 2) for new in (key, value)
            )
        else:
            keys, values = _gather(group.blocks, group.num_seqs, key_cache, value_cache, workspace)
        attended = _attend(queries, keys, values, group, scale=scale, alibi_slopes=alibi_slopes)
        attended = attended.transpose(1, 2).reshape(-1, *query.shape[1:])
        output[group.rows] = attended


def _gather(
    blocks: Tensor | slice, num_seqs: int, key_cache: Tensor, value_cache: Tensor, workspace: Workspace
) -> tuple[Tensor, Tensor]:
    """Cached keys and values, each [num_seqs, num_kv_heads, num_blocks * block_size, head_dim]."""
    if isinstance(blocks, slice):
        key, value = (cache[blocks].view(1, -1, *cache.shape[2:]).transpose(1, 2) for cache in (key_cache, value_cache))
        return key, value
    size = len(blocks) * key_cache[0].numel()
    memory = workspace.take(2 * size, key_cache.dtype)
    gathered = []
    for cache, half in ((key_cache, memory[:size]), (value_cache, memory[size:])):
        pages = half.view(len(blocks), *cache.shape[1:])
        torch.index_select(cache, 0, blocks, out=pages)
        gathered.append(pages.view(num_seqs, -1, *cache.shape[2:]).transpose(1, 2))
    return gathered[0], gathered[1]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, group: _Group, *, scale: float, alibi_slopes: Tensor | None
) -> Tensor:
    """[num_seqs, num_heads, query_len, head_dim]."""
    enable_gqa = query.shape[1] != key.shape[1]
    if alibi_slopes is None:
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=group.mask_in(query.dtype),
            is_causal=group.blocks is None and group.query_len > 1,
            scale=scale,
            enable_gqa=enable_gqa,
        )
    # In float32 whatever the dtype: distances in bfloat16 are exact only to 256.
    attended = F.scaled_dot_product_attention(
        query.float(),
        key.float(),
        value.float(),
        attn_mask=_alibi_bias(group, alibi_slopes),
        scale=scale,
        enable_gqa=enable_gqa,
    )
    return attended.to(query.dtype)


def _alibi_bias(group: _Group, alibi_slopes: Tensor) -> Tensor:
    """[num_seqs, num_heads, query_len, num_keys] float32, -inf where a key is not seen. The same in all layers."""
    if group.bias is not None:
        return group.bias
    distances = group.distances
    if distances is None:
        places = torch.arange(group.query_len)
        distances = (places - places[:, None])[None]
    bias = alibi_slopes[:, None, None] * distances[:, None].float()
    bias.masked_fill_((distances > 0)[:, None], -torch.inf)
    if bias.numel() <= LARGEST_KEPT_BIAS:
        group.bias = bias
    return bias

"""The CPU's attention against the reference, on steps of every kind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.paged_attention import paged_attention_reference, write_kv_reference
from kernels.paged_attention_cpu import LARGEST_GROUP, Workspace, paged_attention_cpu, plan_attention_cpu

NUM_HEADS, HEAD_DIM, BLOCK_SIZE, NUM_BLOCKS = 6, 8, 4, 90


def both(
    sequences: list[tuple[int, int]],
    *,
    num_kv_heads: int,
    alibi: bool,
    dtype: torch.dtype,
    workspace: Workspace,
    scattered: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sequence is (cached tokens, new tokens); blocks hold rubbish where nobody wrote."""
    generator = torch.Generator().manual_seed(len(sequences))

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    key_cache, value_cache = random(2, NUM_BLOCKS, BLOCK_SIZE, num_kv_heads, HEAD_DIM)
    order = (torch.randperm(NUM_BLOCKS - 1, generator=generator) + 1).tolist()
    if not scattered:
        order.sort(reverse=True)
    tables = [[order.pop() for _ in range(-(-(old + new) // BLOCK_SIZE))] for old, new in sequences]
    slots = [
        table[place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE
        for table, (old, new) in zip(tables, sequences, strict=True)
        for place in range(old, old + new)
    ]
    starts = [0, *torch.tensor([new for _, new in sequences]).cumsum(0).tolist()]
    lengths = [old + new for old, new in sequences]
    query, (key, value) = random(len(slots), NUM_HEADS, HEAD_DIM), random(2, len(slots), num_kv_heads, HEAD_DIM)
    write_kv_reference(key, value, key_cache, value_cache, slot_mapping=torch.tensor(slots))
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.1, 0.05, 0.01]) if alibi else None
    width = max(map(len, tables))
    padded = torch.tensor([table + [0] * (width - len(table)) for table in tables])
    expected = paged_attention_reference(
        query,
        key_cache,
        value_cache,
        query_start_loc=torch.tensor(starts),
        seq_lens=torch.tensor(lengths),
        block_tables=padded,
        scale=0.3,
        alibi_slopes=slopes,
    )
    plan = plan_attention_cpu(starts, lengths, padded, block_size=BLOCK_SIZE)
    for _ in range(2):  # as two layers use one plan
        attended = paged_attention_cpu(
            query,
            key,
            value,
            key_cache,
            value_cache,
            plan=plan,
            workspace=workspace,
            scale=0.3,
            alibi_slopes=slopes,
        )
    return attended, expected


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("num_kv_heads", [6, 2])
@settings(deadline=None)
@given(
    sequences=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 30), st.just(1)),
            st.tuples(st.just(0), st.integers(1, 12)),
            st.tuples(st.integers(0, 12), st.integers(2, 9)),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_equals_the_reference(sequences: list[tuple[int, int]], num_kv_heads: int, alibi: bool) -> None:
    attended, expected = both(
        sequences, num_kv_heads=num_kv_heads, alibi=alibi, dtype=torch.float32, workspace=Workspace()
    )
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alibi", [False, True])
def test_equals_the_reference_in_half_precision(dtype: torch.dtype, alibi: bool) -> None:
    attended, expected = both(
        [(7, 1), (0, 9), (3, 4), (12, 1), (29, 1)], num_kv_heads=6, alibi=alibi, dtype=dtype, workspace=Workspace()
    )
    assert attended.dtype == dtype
    torch.testing.assert_close(attended.float(), expected.float(), atol=2e-2, rtol=2e-2)


def test_a_workspace_serves_steps_of_any_size() -> None:
    workspace = Workspace()
    for sequences in ([(5, 1)], [(30, 1), (29, 1)], [(2, 1)], [(9, 3)]):
        attended, expected = both(sequences, num_kv_heads=6, alibi=False, dtype=torch.float32, workspace=workspace)
        torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)


def test_sequences_are_grouped_by_new_tokens_and_length() -> None:
    lengths = [200, 195, 20, 190, 18, 1]
    plan = plan_attention_cpu(list(range(7)), lengths, torch.ones(6, 100, dtype=torch.int64), block_size=BLOCK_SIZE)
    assert [group.num_seqs for group in plan.groups()] == [1, 3, 2]
    plan = plan_attention_cpu([0, 3, 6, 8], [20, 21, 22], torch.ones(3, 9, dtype=torch.int64), block_size=BLOCK_SIZE)
    assert [(group.num_seqs, group.query_len) for group in plan.groups()] == [(2, 3), (1, 2)]


def test_prompts_are_not_padded_and_what_stands_together_is_not_copied() -> None:
    tables = torch.ones(5, 9, dtype=torch.int64)
    plan = plan_attention_cpu([0, 3, 6, 10, 14, 15], [3, 3, 4, 4, 9], tables, block_size=BLOCK_SIZE)
    assert [(group.rows, group.num_seqs) for group in plan.groups()] == [
        (slice(0, 6), 2),
        (slice(6, 14), 2),
        (slice(14, 15), 1),
    ]
    plan = plan_attention_cpu([0, 3, 7, 10], [3, 4, 3], tables[:3], block_size=BLOCK_SIZE)
    assert isinstance(plan.groups()[0].rows, torch.Tensor)
    assert plan.groups()[0].rows.tolist() == [0, 1, 2, 7, 8, 9]


def test_no_group_gathers_more_than_its_share_of_the_caches() -> None:
    lengths = [LARGEST_GROUP // 4] * 9 + [5 * LARGEST_GROUP]
    tables = torch.ones(10, 5 * LARGEST_GROUP // BLOCK_SIZE, dtype=torch.int64)
    plan = plan_attention_cpu(list(range(11)), lengths, tables, block_size=BLOCK_SIZE)
    assert [group.num_seqs for group in plan.groups()] == [1, 4, 4, 1]


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("sequences", [[(10, 1)], [(10, 3)], [(7, 1), (70, 2)], [(3, 1), (90, 1), (8, 4)]])
def test_blocks_that_follow_one_another_are_not_gathered(sequences: list[tuple[int, int]], alibi: bool) -> None:
    workspace = Workspace()
    attended, expected = both(
        sequences, num_kv_heads=3, alibi=alibi, dtype=torch.float32, workspace=workspace, scattered=False
    )
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)
    assert workspace._memory == {}  # each is a group of its own


def test_only_rising_blocks_are_a_slice() -> None:
    tables = torch.tensor([[4, 5, 6], [6, 5, 4], [4, 6, 8]])
    plans = [plan_attention_cpu([0, 1], [11], table[None], block_size=BLOCK_SIZE) for table in tables]
    assert [isinstance(plan.groups()[0].blocks, slice) for plan in plans] == [True, False, False]

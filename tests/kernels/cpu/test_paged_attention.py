"""The CPU's kernel against the definitions: heads prepared, keys and values written, attention over the pages."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.cpu import threads
from kernels.paged_attention import paged_attention_reference
from kernels.paged_attention_cpu import (
    FEW_NEW_TOKENS,
    MOST_PAIRS_ALONE,
    TokensAlone,
    Workspace,
    plan_attention_cpu,
)
from kernels.qk_rotary import HeadNorms, Rotation, qk_rotary_reference

if threads.missing() is not None:
    pytest.skip(f"the kernel cannot run here: {threads.missing()}", allow_module_level=True)

from kernels.cpu.paged_attention import paged_attention_

NUM_BLOCKS, SCALE = 120, 0.3
TOLERANCE = {"atol": 2e-6, "rtol": 1e-5}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    num_heads: int = 6
    num_kv_heads: int = 6
    head_dim: int = 8
    block_size: int = 4
    half: int = 0
    has_norms: bool = False
    has_slopes: bool = False


class Step:
    """A step of sequences (cached tokens, new tokens), query, key and value of a head side by side as in Persimmon's
    rows; what nobody wrote in the caches is NaN."""

    def __init__(self, sequences: list[tuple[int, int]], sizes: Sizes = Sizes(), *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        self.sizes, self.lengths = sizes, [old + new for old, new in sequences]
        self.starts = [0, *torch.tensor([new for _, new in sequences]).cumsum(0).tolist()]
        num_tokens, block_size = self.starts[-1], sizes.block_size
        heads = normal(num_tokens, sizes.num_heads, 3, sizes.head_dim)
        self.query, self.key, self.value = heads.unbind(dim=2)
        self.key, self.value = self.key[:, : sizes.num_kv_heads], self.value[:, : sizes.num_kv_heads]
        order = (torch.randperm(NUM_BLOCKS - 1, generator=generator) + 1).tolist()
        tables = [[order.pop() for _ in range(-(-length // block_size))] for length in self.lengths]
        self.tables = torch.tensor([table + [0] * (max(map(len, tables)) - len(table)) for table in tables])
        self.caches = torch.full((2, NUM_BLOCKS, block_size, sizes.num_kv_heads, sizes.head_dim), torch.nan)
        for table, (old, _) in zip(tables, sequences, strict=True):
            for place in range(old):
                self.caches[:, table[place // block_size], place % block_size] = normal(2, *self.caches.shape[3:])
        self.slots = torch.tensor(
            [
                table[place // block_size] * block_size + place % block_size
                for table, (old, new) in zip(tables, sequences, strict=True)
                for place in range(old, old + new)
            ]
        )
        angles = torch.rand(num_tokens, sizes.half, generator=generator) * 6
        self.rotation = Rotation(angles.cos(), angles.sin()) if sizes.half else None
        self.norms = HeadNorms(*(normal(sizes.head_dim) for _ in range(4)), eps=1e-5) if sizes.has_norms else None
        self.slopes = torch.rand(sizes.num_heads, generator=generator) if sizes.has_slopes else None

    def expected(self) -> tuple[Tensor, Tensor]:
        """Attention, and the caches, by the definitions."""
        caches = self.caches.clone()
        query = qk_rotary_reference(
            self.query,
            self.key,
            self.value,
            *caches,
            slot_mapping=self.slots,
            rotation=self.rotation,
            norms=self.norms,
        )
        attended = paged_attention_reference(
            query,
            *caches.nan_to_num(),
            query_start_loc=torch.tensor(self.starts),
            seq_lens=torch.tensor(self.lengths),
            block_tables=self.tables,
            scale=SCALE,
            alibi_slopes=self.slopes,
        )
        return attended, caches

    def alone(self) -> TokensAlone:
        plan = plan_attention_cpu(self.starts, self.lengths, self.tables, block_size=self.sizes.block_size)
        assert plan.alone is not None
        assert not plan.longer
        return plan.alone

    def run(self, *, workspace: Workspace | None = None) -> tuple[Tensor, Tensor]:
        caches, alone = self.caches.clone(), self.alone()
        query, key, value = (
            states.clone(memory_format=torch.preserve_format) for states in (self.query, self.key, self.value)
        )
        output = torch.full((len(query), self.sizes.num_heads, self.sizes.head_dim), torch.nan)
        paged_attention_(
            query,
            key,
            value,
            *caches,
            output=output,
            alone=alone,
            query_tokens=alone.rows,
            workspace=workspace or Workspace(),
            scale=SCALE,
            slot_mapping=self.slots,
            rotation=self.rotation,
            norms=self.norms,
            alibi_slopes=self.slopes,
        )
        return output, caches

    def check(self) -> None:
        for result, definition in zip(self.run(), self.expected(), strict=True):
            torch.testing.assert_close(result, definition, equal_nan=True, **TOLERANCE)


STEPS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=9)


@pytest.mark.parametrize("num_kv_heads", [6, 2, 1])
@settings(deadline=None)
@given(sequences=STEPS, has_norms=st.booleans(), has_slopes=st.booleans(), half=st.sampled_from([0, 1, 2, 4]))
def test_equals_the_definitions(
    sequences: list[tuple[int, int]], num_kv_heads: int, has_norms: bool, has_slopes: bool, half: int
) -> None:
    sizes = Sizes(num_kv_heads=num_kv_heads, has_norms=has_norms, has_slopes=has_slopes, half=half)
    Step(sequences, sizes, seed=len(sequences)).check()


@pytest.mark.parametrize("head_dim", [5, 32, 80, 128])
@pytest.mark.parametrize("block_size", [1, 16])
def test_heads_and_blocks_of_any_size(head_dim: int, block_size: int) -> None:
    sizes = Sizes(num_heads=3, num_kv_heads=3, head_dim=head_dim, block_size=block_size, half=1, has_norms=True)
    Step([(20, 1), (0, 3), (33, 2), (0, 1)], sizes).check()


@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
def test_the_same_bits_from_any_number_of_threads_and_beside_anything(num_threads: int) -> None:
    sizes = Sizes(num_kv_heads=2, half=2, has_norms=True)
    step = Step([(20, 1), (3, 2), (0, 5), (29, 1)], sizes)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        several = step.run()
        torch.set_num_threads(1)
        one = step.run()
    finally:
        torch.set_num_threads(before)
    for a, b in zip(several, one, strict=True):
        assert torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    single = Step([(20, 1)], sizes)
    single.__dict__.update(step.__dict__ | {"starts": [0, 1], "lengths": [21], "tables": step.tables[:1]})
    single.query, single.key, single.value = step.query[:1], step.key[:1], step.value[:1]
    single.slots = step.slots[:1]
    assert step.rotation is not None
    single.rotation = Rotation(step.rotation.cos[:1], step.rotation.sin[:1])
    assert torch.equal(single.run()[0][0], one[0][0])


def test_what_is_not_finite_is_seen_where_it_is_and_nowhere_else() -> None:
    step = Step([(9, 1), (12, 1), (0, 4)])
    step.caches[0, step.tables[0, 1], 2] = torch.nan
    step.value[1] = torch.inf
    attended, _ = step.run()
    assert attended[0].isnan().all()
    assert not attended[1].isfinite().any()
    assert attended[2:].isfinite().all()


def test_scores_that_overflow_the_exponential_do_not() -> None:
    step = Step([(25, 1), (0, 8)])
    step.query *= 200
    step.check()


def test_some_rows_of_some_tokens() -> None:
    """As in the last layer: all keys are written, few tokens attend, and the result is packed."""
    step = Step([(6, 3), (0, 4)], Sizes(has_norms=True, half=2))
    expected, expected_caches = step.expected()
    kept = torch.tensor([2, 6])  # the last token of each
    alone = plan_attention_cpu([0, 1, 2], step.lengths, step.tables, block_size=4).alone
    assert alone is not None
    output, caches = torch.full((3, 6, 8), torch.nan), step.caches.clone()
    paged_attention_(
        step.query,
        step.key,
        step.value,
        *caches,
        output=output,
        alone=alone,
        query_tokens=kept[alone.rows],
        workspace=Workspace(),
        scale=SCALE,
        slot_mapping=step.slots,
        rotation=step.rotation,
        norms=step.norms,
    )
    torch.testing.assert_close(output[:2], expected[kept], **TOLERANCE)
    assert output[2].isnan().all()
    torch.testing.assert_close(caches, expected_caches, equal_nan=True, **TOLERANCE)


def test_one_workspace_serves_steps_of_any_size() -> None:
    workspace = Workspace()
    for sequences in ([(5, 1)], [(80, 1), (29, 1)], [(2, 1)], [(9, 3)]):
        step = Step(sequences)
        torch.testing.assert_close(step.run(workspace=workspace)[0], step.expected()[0], **TOLERANCE)


def test_which_tokens_go_alone() -> None:
    longest_prompt = next(n for n in range(1, 1000) if n * (n + 1) // 2 > MOST_PAIRS_ALONE) - 1
    tables = torch.zeros(1, 2000, dtype=torch.int64)

    def plan(old: int, new: int) -> bool:
        planned = plan_attention_cpu([0, new], [old + new], tables, block_size=16)
        assert (planned.alone is None) == bool(planned.longer)
        return planned.alone is not None

    assert plan(0, longest_prompt)
    assert not plan(0, longest_prompt + 1)
    assert plan(30_000, FEW_NEW_TOKENS)
    assert not plan(30_000, FEW_NEW_TOKENS + 1)
    planned = plan_attention_cpu([0, 2, 3], [7, 9], tables.expand(2, -1), block_size=16).alone
    assert planned is not None
    assert planned.rows.tolist() == [0, 1, 2]
    assert planned.sequences.tolist() == [0, 0, 1]
    assert (planned.lengths.tolist(), planned.total_length, planned.longest) == ([6, 7, 9], 22, 9)

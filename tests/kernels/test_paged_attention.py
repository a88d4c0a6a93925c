"""Paged attention against plain attention over contiguous keys and values, sequence by sequence."""

from __future__ import annotations

import pytest
import torch

from kernels.paged_attention import paged_attention_reference, write_kv_reference
from kernels.rotary import apply_rotary_, apply_rotary_reference

HEAD_DIM, BLOCK_SIZE = 8, 4


@pytest.mark.parametrize("num_kv_heads", [6, 2, 1])
@pytest.mark.parametrize(
    "sequences",
    [
        [(0, 5)],
        [(0, 1)],
        [(7, 1), (0, 1), (30, 1)],
        [(7, 1), (0, 9), (3, 4), (12, 1)],
        [(5, 8), (5, 8)],
    ],
    ids=str,
)
def test_equals_plain_attention(sequences: list[tuple[int, int]], num_kv_heads: int) -> None:
    """Each sequence is (cached tokens, new tokens); blocks are scattered, unused slots hold NaN-free rubbish."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    num_heads, num_blocks = 6, 40
    key_cache, value_cache = 1e3 * random(2, num_blocks, BLOCK_SIZE, num_kv_heads, HEAD_DIM)
    order = (torch.randperm(num_blocks - 1, generator=generator) + 1).tolist()
    queries, tables, expected = [], [], []
    for num_cached, num_new in sequences:
        length = num_cached + num_new
        table = [order.pop() for _ in range(-(-length // BLOCK_SIZE))]
        key, value = random(2, length, num_kv_heads, HEAD_DIM)
        query = random(num_new, num_heads, HEAD_DIM)
        slots = torch.tensor([table[i // BLOCK_SIZE] * BLOCK_SIZE + i % BLOCK_SIZE for i in range(length)])
        write_kv_reference(key, value, key_cache, value_cache, slot_mapping=slots)
        wide_key, wide_value = (t.repeat_interleave(num_heads // num_kv_heads, dim=1).double() for t in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query.double(), wide_key) * 0.3
        hidden = torch.ones(num_new, length, dtype=torch.bool).triu(num_cached + 1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        expected.append(torch.einsum("hqk,khd->qhd", weights, wide_value))
        queries.append(query)
        tables.append(table)
    width = max(map(len, tables))
    attended = paged_attention_reference(
        torch.cat(queries),
        key_cache,
        value_cache,
        query_start_loc=torch.tensor([0, *torch.tensor([new for _, new in sequences]).cumsum(0).tolist()]),
        seq_lens=torch.tensor([cached + new for cached, new in sequences]),
        block_tables=torch.tensor([table + [0] * (width - len(table)) for table in tables]),
        scale=0.3,
    )
    torch.testing.assert_close(attended.double(), torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_rotary_turns_pairs_and_leaves_the_rest() -> None:
    states = torch.randn(3, 2, 10, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([[0.0, 0.0, 0.0], [0.5, 1.0, 2.0], [3.0, -1.0, 0.1]])
    rotated = apply_rotary_reference(states, angles.cos(), angles.sin())
    as_complex = torch.complex(states[..., :3].double(), states[..., 3:6].double())
    turned = as_complex * torch.polar(torch.ones(3, 1, 3).double(), angles[:, None].double())
    torch.testing.assert_close(rotated[..., :6].double(), torch.cat((turned.real, turned.imag), -1), atol=1e-6, rtol=0)
    assert torch.equal(rotated[..., 6:], states[..., 6:])
    assert torch.equal(rotated[0], states[0])


def test_rotary_in_place_is_the_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(3, 4, 2, 10, generator=generator)
    angles = torch.randn(3, 3, generator=generator)
    for states in both.unbind(dim=2):  # strided, as queries and keys are
        rotated = apply_rotary_reference(states, angles.cos(), angles.sin())
        apply_rotary_(states, angles.cos(), angles.sin())
        torch.testing.assert_close(states, rotated, atol=1e-6, rtol=0)
        assert torch.equal(states[..., 6:], rotated[..., 6:])

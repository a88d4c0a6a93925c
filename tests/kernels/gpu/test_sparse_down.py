"""The sparse down-projection in Triton's interpreter, against its reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.gpu.sparse_down import sparse_down_projection
from kernels.sparse_down import sparse_down_projection_reference


def _states(num_tokens: int, num_rows: int, *, live: float, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(num_rows)
    sizes = torch.randn(num_tokens, 2 * num_rows, generator=generator).abs()[:, :num_rows]  # strided rows
    is_live = torch.rand(num_rows, generator=generator) < live
    return torch.where(is_live, sizes, -sizes).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("num_tokens", "num_rows", "hidden_size"), [(1, 1030, 72), (3, 700, 64), (8, 130, 33)])
@pytest.mark.parametrize("live", [0.0, 0.1, 0.5, 1.0])
def test_is_its_reference(dtype: torch.dtype, num_tokens: int, num_rows: int, hidden_size: int, live: float) -> None:
    states = _states(num_tokens, num_rows, live=live, dtype=dtype)
    if dtype == torch.float16:
        states[-1] *= 1000  # squares of these are infinite in fp16
    weight_t = (torch.randn(num_rows, hidden_size, generator=torch.Generator().manual_seed(1)) / 16).to(dtype)
    counters = [torch.tensor([5, 7]) for _ in range(2)]
    found = sparse_down_projection(states, weight_t, live_counter=counters[0])
    expected = sparse_down_projection_reference(states, weight_t, live_counter=counters[1])
    torch.testing.assert_close(found.sum(dim=0), expected.sum(dim=0), atol=1e-4, rtol=1e-4)
    assert counters[0].tolist() == counters[1].tolist()


def test_dead_rows_are_not_read_until_most_are_live() -> None:
    for live, is_dense in ((0.5, False), (0.8, True)):
        states = _states(2, 520, live=live)
        weight_t = torch.where((states > 0).any(dim=0)[:, None], torch.ones(520, 64), torch.nan)
        for function in (sparse_down_projection, sparse_down_projection_reference):
            assert function(states, weight_t).isnan().any() == is_dense


def test_nan_is_live() -> None:
    states = -torch.ones(1, 64)
    states[0, 9] = torch.nan
    assert sparse_down_projection(states, torch.ones(64, 64)).sum(dim=0).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_padding_makes_no_row_live(dtype: torch.dtype) -> None:
    states = _states(3, 700, live=0.2, dtype=dtype)
    states[1] = 500.0  # alone it would make every row live
    weight_t = torch.randn(700, 64, generator=torch.Generator().manual_seed(1)).to(dtype) / 16
    is_token = torch.tensor([1, 0, 1])
    counters = [torch.zeros(2, dtype=torch.int64) for _ in range(3)]
    found = sparse_down_projection(states, weight_t, live_counter=counters[0], is_token=is_token)
    expected = sparse_down_projection_reference(states, weight_t, live_counter=counters[1], is_token=is_token)
    alone = sparse_down_projection_reference(states[::2], weight_t, live_counter=counters[2])
    assert counters[0].tolist() == counters[1].tolist() == counters[2].tolist()
    assert 0 < counters[0][0] < 0.3 * counters[0][1]
    torch.testing.assert_close(found.sum(dim=0), expected.sum(dim=0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.sum(dim=0)[::2], alone.sum(dim=0), atol=1e-4, rtol=1e-4)


def test_padding_alone_has_no_live_row() -> None:
    counter = torch.zeros(2, dtype=torch.int64)
    found = sparse_down_projection(
        torch.ones(2, 64), torch.ones(64, 64), live_counter=counter, is_token=torch.zeros(2, dtype=torch.int64)
    )
    assert counter.tolist() == [0, 64]
    assert not found.any()

"""The residual sum and norm in Triton's interpreter against the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.gpu import residual_norm as gpu
from kernels.residual_norm import residual_layer_norm_reference, residual_rms_norm_reference

# One rounding may go the other way after a sum in another order: a step of the dtype, at entries of about 8.
BOUNDS = {torch.float32: 2e-6, torch.float16: 4e-3}


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not written is seen."""
    empty = torch.empty

    def poisoned(*arguments: Any, **options: Any) -> Tensor:
        return empty(*arguments, **options).fill_(torch.nan)

    monkeypatch.setattr(torch, "empty", poisoned)
    monkeypatch.setattr(torch, "empty_like", lambda tensor: poisoned(tensor.shape, dtype=tensor.dtype))


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_same(
    kernel: Callable[..., tuple[Tensor, Tensor]],
    reference: Callable[..., tuple[Tensor, Tensor]],
    *arguments: Tensor | None,
    bound: float,
) -> None:
    for found, expected in zip(kernel(*arguments, eps=1e-5), reference(*arguments, eps=1e-5), strict=True):
        torch.testing.assert_close(found, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("hidden_size", [1, 300])
@pytest.mark.parametrize("num_partials", [None, 0, 1, 3])  # none: a delta of the residual's dtype; 0: no delta
@pytest.mark.parametrize("has_bias", [True, False])
def test_equals_the_definition(dtype: torch.dtype, hidden_size: int, num_partials: int | None, has_bias: bool) -> None:
    residual = normal(3, hidden_size, dtype=dtype)
    delta = normal(3, hidden_size, dtype=dtype, seed=1) if num_partials is None else None
    if num_partials:
        delta = normal(num_partials, 3, hidden_size, seed=1)
    delta_bias = normal(hidden_size, dtype=dtype, seed=2) if has_bias and delta is not None else None
    weight = normal(hidden_size, dtype=dtype, seed=3)
    bias = normal(hidden_size, dtype=dtype, seed=4) if has_bias else None
    arguments = (residual, delta, delta_bias, weight)
    assert_same(gpu.residual_layer_norm, residual_layer_norm_reference, *arguments, bias, bound=BOUNDS[dtype])
    assert_same(gpu.residual_rms_norm, residual_rms_norm_reference, *arguments, bound=BOUNDS[dtype])


def test_rows_may_be_parts_of_larger_ones() -> None:
    residual, delta = normal(4, 90)[::2, 5:45], normal(3, 4, 90, seed=1)[:, ::2, 20:60]
    assert_same(
        gpu.residual_layer_norm, residual_layer_norm_reference, residual, delta, None, normal(40), None, bound=2e-6
    )


def test_a_large_mean_takes_nothing_from_the_variance() -> None:
    residual = 1000 + normal(2, 64)
    assert_same(
        gpu.residual_layer_norm, residual_layer_norm_reference, residual, None, None, normal(64), None, bound=1e-3
    )


def test_a_row_is_the_same_bits_in_any_batch() -> None:
    arguments = normal(5, 48), normal(4, 5, 48, seed=1), normal(48, seed=2), normal(48, seed=3), normal(48, seed=4)
    together = gpu.residual_layer_norm(*arguments, eps=1e-5)
    alone = gpu.residual_layer_norm(arguments[0][2:3], arguments[1][:, 2:3], *arguments[2:], eps=1e-5)
    assert all(torch.equal(one, all_[2:3]) for one, all_ in zip(alone, together, strict=True))


def test_no_rows_give_no_rows() -> None:
    summed, normed = gpu.residual_layer_norm(normal(0, 8), normal(0, 8), None, normal(8), None, eps=1e-5)
    assert summed.shape == normed.shape == (0, 8)


def test_without_a_delta_the_residual_is_handed_back() -> None:
    residual = normal(2, 8)
    assert gpu.residual_rms_norm(residual, None, None, normal(8), eps=1e-5)[0] is residual
    assert residual_rms_norm_reference(residual, None, None, normal(8), eps=1e-5)[0] is residual


@pytest.mark.parametrize("function", [gpu.residual_rms_norm, residual_rms_norm_reference])
def test_a_bias_of_nothing_is_refused(function: Callable[..., tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(ValueError, match="without a delta"):
        function(normal(2, 8), None, normal(8), normal(8), eps=1e-5)


def test_entries_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="side by side"):
        gpu.residual_rms_norm(normal(8, 2).T, None, None, normal(8), eps=1e-5)

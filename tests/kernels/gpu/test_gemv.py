"""Vectors times a matrix in Triton's interpreter, against torch's product in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from interpreter_products import add_in_a_fixed_order
from torch import Tensor

from kernels.gpu import gemv as gpu
from kernels.gpu.gemv import gemv, gemv_partials, splits
from kernels.gpu.residual_norm import residual_layer_norm
from kernels.residual_norm import residual_layer_norm_reference

BOUNDS = {torch.float32: 1e-5, torch.float16: 4e-3}


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not written is seen."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *arguments, **options: empty(*arguments, **options).fill_(torch.nan))


def tensors(
    num_tokens: int, in_features: int, out_features: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of wider tensors, NaN between them."""
    generator = torch.Generator().manual_seed(in_features)

    def strided(rows: int, columns: int) -> Tensor:
        wide = torch.full((rows, columns + 7), torch.nan, dtype=dtype)
        wide[:, :columns] = torch.randn(rows, columns, generator=generator)
        return wide[:, :columns]

    weight = strided(out_features, in_features)
    weight *= in_features**-0.5
    return strided(num_tokens, in_features), weight, torch.randn(out_features, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    ("num_tokens", "in_features", "out_features"), [(1, 200, 33), (8, 1, 1), (3, 130, 40), (17, 70, 65)]
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_equals_the_product(
    num_tokens: int, in_features: int, out_features: int, dtype: torch.dtype, has_bias: bool
) -> None:
    states, weight, bias = tensors(num_tokens, in_features, out_features, dtype)
    exact = states.double() @ weight.double().T + (bias.double() if has_bias else 0)
    found = gemv(states, weight, bias if has_bias else None)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=BOUNDS[dtype], atol=BOUNDS[dtype])


def test_without_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a matrix of many rows is: the bias is added by the kernel."""
    monkeypatch.setattr(gpu, "PROGRAMS_WANTED", 1)
    states, weight, bias = tensors(5, 140, 70)
    torch.testing.assert_close(gemv(states, weight, bias), states @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_number_of_splits() -> None:
    assert (splits(4096), splits(12288), splits(262_144), splits(32)) == (4, 1, 1, gpu.MOST_SPLITS)


def test_partial_sums_go_into_the_norm() -> None:
    """More splits than there are tiles: some have nothing to add."""
    states, weight, bias = tensors(2, 70, 40)
    partials = gemv_partials(states, weight)
    assert partials.shape == (gpu.MOST_SPLITS, 2, 40)
    residual, norm = torch.randn(2, 40), torch.ones(40)
    found = residual_layer_norm(residual, partials, bias, norm, None, eps=1e-5)
    expected = residual_layer_norm_reference(residual, states @ weight.T, bias, norm, None, eps=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [gemv, lambda states, weight, bias: gemv_partials(states, weight)[0]])
def test_a_token_is_the_same_bits_in_any_batch(
    function: Callable[[Tensor, Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_in_a_fixed_order(monkeypatch)
    states, weight, bias = tensors(18, 150, 36)
    together = function(states, weight, bias)
    for index in (0, 15, 16):
        assert torch.equal(function(states[index : index + 1], weight, bias)[0], together[index])
    assert torch.equal(function(states[3:11], weight, bias), together[3:11])


def test_no_tokens() -> None:
    states, weight, bias = tensors(2, 16, 8)
    assert gemv(states[:0], weight, bias).shape == (0, 8)


def test_what_does_not_fit_is_refused() -> None:
    states, weight, _ = tensors(2, 16, 8)
    with pytest.raises(ValueError, match="need rows of 16 entries of the same dtype"):
        gemv(states, weight[:, :8], None)
    with pytest.raises(ValueError, match="need rows of 16 entries of the same dtype"):
        gemv(states, weight.half(), None)
    with pytest.raises(ValueError, match="side by side"):
        gemv(states, weight.T.contiguous().T, None)

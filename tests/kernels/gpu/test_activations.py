"""Activations in Triton's interpreter against the definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.activations import bias_gelu_reference, bias_relu_squared_reference, swiglu_reference
from kernels.gpu import activations as gpu

BOUNDS = {torch.float32: 2e-6, torch.float16: 2e-3}  # two steps of the dtype
WITH_BIAS = [(gpu.bias_relu_squared, bias_relu_squared_reference), (gpu.bias_gelu, bias_gelu_reference)]


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not written is seen."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *arguments, **options: empty(*arguments, **options).fill_(torch.nan))


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return (3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 1030), (65, 33)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("kernel", "reference"), WITH_BIAS)
def test_equals_the_definition(kernel, reference, dtype: torch.dtype, shape: tuple[int, int], has_bias: bool) -> None:
    states = normal(*shape, dtype=dtype)
    bias = normal(shape[1], dtype=dtype, seed=1) if has_bias else None
    bound = BOUNDS[dtype]
    torch.testing.assert_close(kernel(states, bias), reference(states, bias), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("shape", [(1, 2), (3, 2060), (65, 66)])
def test_swiglu_equals_the_definition(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    states, bound = normal(*shape, dtype=dtype), BOUNDS[dtype]
    torch.testing.assert_close(gpu.swiglu(states), swiglu_reference(states), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_a_bias_the_definitions_are_torchs(dtype: torch.dtype) -> None:
    states = normal(4, 50, dtype=dtype)
    assert torch.equal(bias_relu_squared_reference(states, None), F.relu(states).square())
    assert torch.equal(bias_gelu_reference(states, None), F.gelu(states))


def test_rows_may_be_parts_of_larger_ones() -> None:
    states, bias = normal(6, 90)[::2, 5:45], normal(40, seed=1)
    torch.testing.assert_close(gpu.bias_gelu(states, bias), bias_gelu_reference(states, bias), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(gpu.swiglu(states), swiglu_reference(states), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("kernel", "reference"), WITH_BIAS)
def test_extremes_are_torchs(kernel, reference) -> None:
    states = torch.tensor([[torch.nan, -torch.nan, 1e4, -1e4, 0.0, -0.0]])
    torch.testing.assert_close(kernel(states, None), reference(states, None), equal_nan=True)


def test_what_fp16_cannot_hold_is_infinite() -> None:
    states = torch.tensor([[255.0, 256.0, -256.0]], dtype=torch.float16)
    assert gpu.bias_relu_squared(states, None).tolist() == [[65024.0, torch.inf, 0.0]]


def test_swiglu_of_large_gates_is_finite() -> None:
    states = torch.tensor([[1e4, -1e4, 2.0, 2.0]])
    assert gpu.swiglu(states).tolist() == [[2e4, 0.0]]


def test_no_rows_give_no_rows() -> None:
    assert gpu.swiglu(normal(0, 8)).shape == (0, 4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="7 columns"):
        gpu.swiglu(normal(2, 7))
    with pytest.raises(ValueError, match="side by side"):
        gpu.bias_gelu(normal(8, 2).T, None)

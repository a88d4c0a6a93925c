"""Activations in Triton's interpreter against the definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.activations import SquaredRelu, bias_gelu_reference, bias_relu_squared_reference, swiglu_reference
from kernels.gpu import activations as gpu

BOUNDS = {torch.float32: 2e-6, torch.float16: 2e-3}  # two steps of the dtype
WITH_BIAS = [(gpu.bias_relu_squared, bias_relu_squared_reference), (gpu.bias_gelu, bias_gelu_reference)]


def tensors(result: Tensor | SquaredRelu) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [each for each in result if each is not None]


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
    torch.testing.assert_close(tensors(kernel(states, bias)), tensors(reference(states, bias)), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 1030), (65, 33)])
def test_swiglu_equals_the_definition(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    gate, up, bound = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1), BOUNDS[dtype]
    torch.testing.assert_close(gpu.swiglu(gate, up), swiglu_reference(gate, up), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_a_bias_the_definitions_are_torchs(dtype: torch.dtype) -> None:
    states = normal(4, 50, dtype=dtype)
    squares, scale = bias_relu_squared_reference(states, None)
    assert torch.equal(squares, F.relu(states).square())
    assert (scale is not None) == (dtype == torch.float16)
    # some processors compute torch's in half precision
    bound = BOUNDS.get(dtype, 0.0)
    torch.testing.assert_close(bias_gelu_reference(states, None), F.gelu(states), rtol=bound, atol=bound)


def test_rows_may_be_parts_of_larger_ones() -> None:
    states, bias = normal(6, 90)[::2, 5:45], normal(40, seed=1)
    torch.testing.assert_close(gpu.bias_gelu(states, bias), bias_gelu_reference(states, bias), rtol=2e-6, atol=2e-6)
    halves = normal(6, 90)[::2, 5:85].chunk(2, dim=-1)
    torch.testing.assert_close(gpu.swiglu(*halves), swiglu_reference(*halves), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("kernel", "reference"), WITH_BIAS)
def test_extremes_are_torchs(kernel, reference) -> None:
    states = torch.tensor([[torch.nan, -torch.nan, 1e4, -1e4, 0.0, -0.0]])
    torch.testing.assert_close(tensors(kernel(states, None)), tensors(reference(states, None)), equal_nan=True)


def test_squares_that_fp16_cannot_hold_are_scaled() -> None:
    """Each row by itself; the largest numbers that there are, too."""
    states = torch.tensor([[100.0, 2.0, -256.0], [255.0, 256.0, 1.0], [65504.0, 1.0, 32.0]], dtype=torch.float16)
    squares, scale = gpu.bias_relu_squared(states, None)
    assert scale is not None
    assert scale[:, 0].tolist() == [1.0, 4.0, 512.0]
    assert squares.isfinite().all()
    exact = F.relu(states.double()).square()
    torch.testing.assert_close(squares.double() * scale.double().square(), exact, rtol=2**-11, atol=2.0**-7)
    bias = torch.tensor([0.0, 0.0, 65504.0], dtype=torch.float16)
    for found, expected in zip(
        gpu.bias_relu_squared(states, bias), bias_relu_squared_reference(states, bias), strict=True
    ):
        assert torch.equal(found, expected)  # type: ignore[arg-type]


def test_swiglu_of_large_gates_is_finite() -> None:
    gate, up = torch.tensor([[1e4, -1e4], [2.0, 2.0]])[:, None]
    assert gpu.swiglu(gate, up).tolist() == [[2e4, 0.0]]


def test_no_rows_give_no_rows() -> None:
    assert gpu.swiglu(normal(0, 4), normal(0, 4)).shape == (0, 4)
    assert gpu.bias_relu_squared(normal(0, 4, dtype=torch.float16), None).squares.shape == (0, 4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gate is \[2, 7\] and up \[2, 8\]"):
        gpu.swiglu(normal(2, 7), normal(2, 8))
    with pytest.raises(ValueError, match="side by side"):
        gpu.bias_gelu(normal(8, 2).T, None)

"""The CPU's ways of computing a projection against the definition."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

import kernels.linear
from kernels.linear import HAS_ONEDNN, _shares, linear, linear_reference, padded_rows


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As many as one row is split for, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def not_by_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that is not Intel's."""
    monkeypatch.setattr(kernels.linear, "TAKES_MKL", False)


@pytest.fixture(params=["by MKL", "not by MKL"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.linear, "TAKES_MKL", request.param == "by MKL")


def difference(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> float:
    """Largest difference from the product in float64, over the size of such sums."""
    exact = linear_reference(states.double(), weight.double(), None if bias is None else bias.double())
    found = linear(states, weight, bias)
    assert found.shape == exact.shape
    assert found.dtype == states.dtype
    return float((found.double() - exact).abs().max()) / weight.shape[1] ** 0.5


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("num_tokens", [1, 2, 3, 17, 300])
@pytest.mark.parametrize(("out_features", "in_features"), [(64, 96), (97, 40), (1, 1), (9, 640)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_equals_the_definition(num_tokens: int, out_features: int, in_features: int, has_bias: bool) -> None:
    generator = torch.Generator().manual_seed(num_tokens)
    states = torch.randn(num_tokens, in_features, generator=generator)
    weight = torch.randn(out_features, in_features, generator=generator)
    bias = torch.randn(out_features, generator=generator) if has_bias else None
    with torch.inference_mode():
        assert difference(states, weight, bias) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_are_the_definition_itself(dtype: torch.dtype) -> None:
    states, weight, bias = torch.randn(3, 8).to(dtype), torch.randn(5, 8).to(dtype), torch.randn(5).to(dtype)
    assert torch.equal(linear(states, weight, bias), linear_reference(states, weight, bias))


@pytest.mark.usefixtures("not_by_mkl")
def test_rows_are_padded_to_few_numbers_and_by_little() -> None:
    numbers = [padded_rows(count) for count in range(1025)]
    assert numbers[:2] == [0, 1]
    assert len(set(numbers[1:])) == 45
    assert all(count <= number for count, number in enumerate(numbers))
    assert all(4 * (number - count) < count for count, number in enumerate(numbers) if count >= 16)
    assert all(padded_rows(number) == number for number in numbers)


def test_no_row_is_added_for_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.linear, "TAKES_MKL", True)
    assert [padded_rows(count) for count in range(1025)] == list(range(1025))


@pytest.mark.skipif(not HAS_ONEDNN, reason="oneDNN is for x86-64")
@pytest.mark.parametrize("takes_mkl", [False, True])
def test_every_number_of_rows_takes_little_memory(takes_mkl: bool) -> None:
    program = f"""
import psutil, torch, kernels.linear
kernels.linear.TAKES_MKL = {takes_mkl}
from kernels.linear import linear
torch.set_num_threads(1)
states, weight = torch.randn(600, 192), torch.randn(576, 192)
linear(states, weight, None)
before = psutil.Process().memory_info().rss
for num_rows in range(2, 400):
    linear(states[:num_rows], weight, None)
print((psutil.Process().memory_info().rss - before) >> 20)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 64  # MiB; 230 if a product is made for each number


@pytest.mark.usefixtures("each_way")
def test_no_rows_give_no_rows() -> None:
    assert linear(torch.empty(0, 8), torch.randn(5, 8), None).shape == (0, 5)


@pytest.mark.usefixtures("each_way")
def test_states_may_be_part_of_a_larger_tensor() -> None:
    states, weight = torch.randn(6, 40)[::2, :20], torch.randn(10, 20)
    with torch.inference_mode():
        assert difference(states, weight, None) < 1e-5
        assert difference(states[:1], weight, None) < 1e-5


@pytest.mark.parametrize(
    ("rows", "num_threads", "shares"), [(64, 2, 2), (9, 2, 3), (97, 2, 1), (1, 2, 1), (64, 1, 2), (1397, 4, 11)]
)
def test_every_thread_gets_an_equal_share_or_there_is_one(rows: int, num_threads: int, shares: int) -> None:
    assert _shares(rows, num_threads) == shares


@pytest.mark.skipif(not HAS_ONEDNN, reason="oneDNN's product is used on x86 only")
@pytest.mark.usefixtures("not_by_mkl")
def test_several_rows_go_to_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is torch's own, not public: a torch without it must not pass unnoticed."""
    called = []
    operator = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *a: called.append(len(a[0])) or operator(*a))
    with torch.inference_mode():
        linear(torch.randn(2, 8), torch.randn(4, 8), None)
    assert called == [2]

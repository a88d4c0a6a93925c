"""Our product on a CPU against the product in float64, and its bits against its own in other company."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kernels.cpu import threads

if threads.missing() is not None:
    pytest.skip(f"kernels cannot run here: {threads.missing()}", allow_module_level=True)

import kernels.linear
from kernels.cpu.linear import compile_for_this_processor, fits, linear, product_

NAN = float("nan")


@pytest.fixture(autouse=True)
def not_by_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that is not Intel's."""
    monkeypatch.setattr(kernels.linear, "TAKES_MKL", False)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def tensors(num_tokens: int, in_features: int, out_features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of wider tensors, NaN between them."""
    generator = torch.Generator().manual_seed(num_tokens * in_features)
    states = torch.full((num_tokens, in_features + 3), NAN)[:, :in_features]
    weight = torch.full((out_features, in_features + 5), NAN)[:, :in_features]
    states.copy_(torch.randn(num_tokens, in_features, generator=generator))
    weight.copy_(torch.randn(out_features, in_features, generator=generator))
    return states, weight, torch.randn(out_features, generator=generator)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("num_tokens", [1, 2, 5, 6, 7, 13, 40, 513, 1030])
@pytest.mark.parametrize(
    ("in_features", "out_features"), [(16, 4), (48, 12), (768, 8), (784, 20), (2320, 36), (192, 576)]
)
def test_equals_the_product(num_tokens: int, in_features: int, out_features: int, num_threads: int) -> None:
    """Depths of less than a tile's, of one, and of several with a rest; tokens of one pass, several and two slabs."""
    torch.set_num_threads(num_threads)
    states, weight, bias = tensors(num_tokens, in_features, out_features)
    assert fits(states, weight)
    exact = states.double() @ weight.double().T
    for given in (None, bias):
        found = linear(states, weight, given).double()
        expected = exact if given is None else exact + given.double()
        assert float((found - expected).abs().max()) < 2e-6 * in_features**0.5 + 1e-6
    output = torch.full((num_tokens, out_features), NAN)
    product_(states, weight, output=output)
    assert torch.equal(output, linear(states, weight, None))


def test_a_token_is_the_same_bits_in_any_company_and_on_any_number_of_threads() -> None:
    states, weight, bias = tensors(700, 1600, 44)
    torch.set_num_threads(2)
    together = linear(states, weight, bias)
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        for begin, end in ((0, 1), (5, 7), (6, 20), (500, 600), (699, 700)):
            assert torch.equal(linear(states[begin:end], weight, bias), together[begin:end])


def test_what_is_not_finite_is_seen_where_it_is_and_nowhere_else() -> None:
    states, weight, bias = tensors(9, 64, 16)
    states[2, 63], states[4, 0], weight[5, 7] = NAN, torch.inf, NAN
    found = linear(states, weight, bias)
    expected = states @ weight.T + bias
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.isinf(), expected.isinf())
    assert found[[0, 1, 3]][:, [0, 4, 6]].isfinite().all()


def test_no_tokens() -> None:
    states, weight, bias = tensors(3, 32, 8)
    assert linear(states[:0], weight, bias).shape == (0, 8)


@pytest.mark.parametrize(("in_features", "out_features"), [(17, 8), (32, 6), (5, 3)])
def test_what_does_not_fit_goes_to_torch(in_features: int, out_features: int) -> None:
    states, weight, bias = tensors(5, in_features, out_features)
    assert not fits(states, weight)
    torch.testing.assert_close(linear(states, weight, bias), states @ weight.T + bias)
    output = torch.empty(5, out_features)
    product_(states, weight, output=output)
    torch.testing.assert_close(output, states @ weight.T)


def test_columns_go_to_torch() -> None:
    weight = torch.randn(32, 16).T
    assert not fits(torch.randn(3, 32), weight)
    assert not fits(torch.randn(32, 3).T, torch.randn(16, 32))


def test_on_intels_processors_it_is_mkls(monkeypatch: pytest.MonkeyPatch) -> None:
    states, weight, bias = tensors(5, 32, 8)
    monkeypatch.setattr(kernels.linear, "TAKES_MKL", True)
    monkeypatch.setattr("kernels.cpu.linear._launch", lambda *_: pytest.fail("our kernel was called"))
    assert torch.equal(linear(states, weight, bias), torch.nn.functional.linear(states, weight, bias))
    product_(states, weight, output=torch.empty(5, 8))
    monkeypatch.setattr("kernels.cpu.code.address", lambda *_: pytest.fail("our kernel was compiled"))
    compile_for_this_processor()


@pytest.mark.slow
def test_without_avx_512() -> None:
    """Compiled for vectors of eight numbers, as for an older processor: the same results."""
    program = """
import torch, kernels.linear, kernels.cpu.code as code
kernels.linear.TAKES_MKL = False
code.vector_length = lambda: 8
from kernels.cpu.linear import linear
for num_tokens, depth in ((1, 8), (2, 24), (3, 768), (7, 776), (40, 2320)):
    states, weight, bias = torch.randn(num_tokens, depth), torch.randn(20, depth), torch.randn(20)
    exact = states.double() @ weight.double().T + bias.double()
    print(float((linear(states, weight, bias).double() - exact).abs().max()) / depth ** 0.5)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(float(line) < 2e-6 for line in ran.stdout.split())
    assert len(ran.stdout.split()) == 5

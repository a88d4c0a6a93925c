"""Which table of functions a model is built with, and why."""

from __future__ import annotations

import pytest
import torch

from model.interface import InvalidRequest
from model.layers import ops
from model.layers.ops import REFERENCE, choose_ops

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def test_a_cpu_runs_the_reference() -> None:
    chosen = choose_ops(CPU)
    assert chosen.ops is REFERENCE
    assert chosen.note == "the kernels need an NVIDIA GPU"


def test_a_gpu_runs_the_kernels(capability: None) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")
    chosen = choose_ops(GPU)
    assert chosen.ops.name == "triton"
    assert chosen.note is None
    assert choose_ops(GPU, wanted="reference").note == "the reference was asked for"


def test_an_old_gpu_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    chosen = choose_ops(GPU)
    assert chosen.ops is REFERENCE
    assert chosen.note == "the kernels need a GPU of compute capability 8.0, and this one's is 7.5"
    with pytest.raises(InvalidRequest, match=r"kernels='triton' is not allowed here: .* this one's is 7\.5"):
        choose_ops(GPU, wanted="triton")


def test_what_deterministic_needs(capability: None) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")
    assert choose_ops(GPU, deterministic=True).ops.name == "deterministic"
    with pytest.raises(InvalidRequest, match="deterministic is not allowed here: the kernels need an NVIDIA GPU"):
        choose_ops(CPU, deterministic=True)
    with pytest.raises(InvalidRequest, match="kernels='reference' is not allowed with deterministic"):
        choose_ops(GPU, wanted="reference", deterministic=True)


def test_without_triton(monkeypatch: pytest.MonkeyPatch, capability: None) -> None:
    monkeypatch.setattr(ops, "find_spec", lambda name: None)
    assert choose_ops(GPU).note == "Triton is not installed"
    with pytest.raises(InvalidRequest, match="need an NVIDIA GPU"):
        choose_ops(CPU, wanted="triton")


def test_a_cpu_runs_kernels_in_the_interpreter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_is_interpreting", lambda: False)
    with pytest.raises(InvalidRequest, match="need an NVIDIA GPU"):
        choose_ops(CPU, wanted="triton")


def test_another_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="kernels='cuda' is not allowed: use auto, triton, reference"):
        choose_ops(CPU, wanted="cuda")


def test_a_bias_that_is_still_to_be_added() -> None:
    """The reference's own functions leave none, but a delta with one is a delta."""
    norm = torch.nn.LayerNorm(4)
    residual, delta, bias = torch.randn(3, 4), torch.randn(3, 4), torch.randn(4)
    summed, normed = REFERENCE.layer_norm(residual, delta, bias, norm)
    torch.testing.assert_close(summed, residual + delta + bias)
    assert torch.equal(normed, norm(summed))

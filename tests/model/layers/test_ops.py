"""Which table of functions a model is built with, and why."""

from __future__ import annotations

import pytest
import torch

from kernels.cpu import threads
from model.interface import InvalidRequest
from model.layers import ops
from model.layers.ops import REFERENCE, choose_ops

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
FLOAT, BFLOAT = torch.float32, torch.bfloat16


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def test_a_cpu_runs_compiled_kernels_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "missing", lambda: None)
    pytest.importorskip("numba", reason="Numba is not installed: it comes with requirements.txt")
    chosen = choose_ops(CPU, dtype=FLOAT)
    assert chosen.ops.name == "numba"
    assert chosen.note is None
    half = choose_ops(CPU, dtype=torch.bfloat16)
    assert half.ops is REFERENCE
    assert half.note == "Numba's kernels take float32, not bfloat16"
    with pytest.raises(InvalidRequest, match=r"kernels='numba' is not allowed here: .* not float16"):
        choose_ops(CPU, dtype=torch.float16, wanted="numba")
    with pytest.raises(InvalidRequest, match="kernels='numba' is not allowed here: Numba's kernels are for CPUs"):
        choose_ops(GPU, dtype=FLOAT, wanted="numba")
    assert choose_ops(CPU, dtype=FLOAT, wanted="reference").ops is REFERENCE


def test_a_cpu_without_numba_runs_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "missing", lambda: "Numba is not installed")
    chosen = choose_ops(CPU, dtype=FLOAT)
    assert chosen.ops is REFERENCE
    assert chosen.note == "Numba is not installed"
    with pytest.raises(InvalidRequest, match="kernels='numba' is not allowed here: Numba is not installed"):
        choose_ops(CPU, dtype=FLOAT, wanted="numba")


def test_a_gpu_runs_the_kernels(capability: None) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")
    chosen = choose_ops(GPU, dtype=BFLOAT)
    assert chosen.ops.name == "triton"
    assert chosen.note is None
    assert choose_ops(GPU, dtype=BFLOAT, wanted="reference").note == "the reference was asked for"


def test_an_old_gpu_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    chosen = choose_ops(GPU, dtype=BFLOAT)
    assert chosen.ops is REFERENCE
    assert chosen.note == "the kernels need a GPU of compute capability 8.0, and this one's is 7.5"
    with pytest.raises(InvalidRequest, match=r"kernels='triton' is not allowed here: .* this one's is 7\.5"):
        choose_ops(GPU, dtype=BFLOAT, wanted="triton")


def test_what_deterministic_needs(capability: None) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")
    assert choose_ops(GPU, dtype=BFLOAT, deterministic=True).ops.name == "deterministic"
    with pytest.raises(InvalidRequest, match="deterministic is not allowed here: the kernels need an NVIDIA GPU"):
        choose_ops(CPU, dtype=BFLOAT, deterministic=True)
    with pytest.raises(InvalidRequest, match="kernels='reference' is not allowed with deterministic"):
        choose_ops(GPU, dtype=BFLOAT, wanted="reference", deterministic=True)


def test_without_triton(monkeypatch: pytest.MonkeyPatch, capability: None) -> None:
    monkeypatch.setattr(ops, "find_spec", lambda name: None)
    assert choose_ops(GPU, dtype=BFLOAT).note == "Triton is not installed"
    with pytest.raises(InvalidRequest, match="need an NVIDIA GPU"):
        choose_ops(CPU, dtype=BFLOAT, wanted="triton")


def test_a_cpu_runs_kernels_in_the_interpreter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_is_interpreting", lambda: False)
    with pytest.raises(InvalidRequest, match="need an NVIDIA GPU"):
        choose_ops(CPU, dtype=BFLOAT, wanted="triton")


def test_another_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="kernels='cuda' is not allowed: use auto, triton, numba, reference"):
        choose_ops(CPU, dtype=BFLOAT, wanted="cuda")


def test_a_bias_that_is_still_to_be_added() -> None:
    """The reference's own functions leave none, but a delta with one is a delta."""
    norm = torch.nn.LayerNorm(4)
    residual, delta, bias = torch.randn(3, 4), torch.randn(3, 4), torch.randn(4)
    summed, normed = REFERENCE.layer_norm(residual, delta, bias, norm)
    torch.testing.assert_close(summed, residual + delta + bias)
    assert torch.equal(normed, norm(summed))

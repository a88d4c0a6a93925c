"""Whether compiled kernels can run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kernels.cpu import threads


@pytest.fixture(autouse=True)
def asked_again() -> Iterator[None]:
    threads.missing.cache_clear()
    yield
    threads.missing.cache_clear()


@pytest.mark.skipif("CI" not in os.environ, reason="a user's machine may lack what the kernels need, CI may not")
def test_in_ci_they_run() -> None:
    """Else the other tests of this folder would be skipped and nobody would see it."""
    assert threads.missing() is None


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "find_spec", lambda name: None)
    assert threads.missing() == "Numba is not installed"


def test_without_gcc_s_openmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(threads, "find_spec", lambda name: object())
    assert threads.missing() == "torch does not bring GCC's OpenMP library here"
    (tmp_path / "lib" / "libgomp-1.so.1").touch()
    threads.missing.cache_clear()
    assert threads.missing() is None

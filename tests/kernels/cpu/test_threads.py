"""Whether compiled kernels can run."""

from __future__ import annotations

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

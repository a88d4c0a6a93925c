"""Triton kernels on the CPU: its interpreter runs them, on tensors of any machine.

tests/conftest.py sets `TRITON_INTERPRET=1` before Triton is first imported. Compiled code needs a process of its own,
without the variable. Where there is no interpreter, the files here are skipped without being imported.

With `TRITON_INTERPRET=0 KERNEL_TESTS_DEVICE=cuda` the same tests run compiled kernels on a GPU, references too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from on_device import OnDevice

DEVICE = os.environ.get("KERNEL_TESTS_DEVICE", "cpu")


def reason_to_skip() -> str:
    """Why no kernel can run here; empty if one can."""
    try:
        import triton
    except ModuleNotFoundError:
        return "Triton is not installed (requirements-dev.txt has it)"
    if DEVICE == "cpu":
        return "" if triton.knobs.runtime.interpret else "TRITON_INTERPRET is set to something other than 1"
    if triton.knobs.runtime.interpret:
        return f"KERNEL_TESTS_DEVICE={DEVICE} needs TRITON_INTERPRET=0"
    return "" if torch.cuda.is_available() else f"KERNEL_TESTS_DEVICE={DEVICE}, and there is no GPU"


REASON_TO_SKIP = reason_to_skip()


class SkippedModule(pytest.Module):
    """A test file that is not imported, because what it tests cannot run."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        pytest.skip(REASON_TO_SKIP, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return SkippedModule.from_parent(parent, path=module_path) if REASON_TO_SKIP else None


@pytest.fixture(autouse=True)
def tensors_on_the_device() -> Iterator[None]:
    """What a test makes is where the kernels run."""
    if DEVICE == "cpu":
        yield
        return
    with OnDevice(torch.device(DEVICE)):
        yield

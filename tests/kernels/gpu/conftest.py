"""Triton kernels on the CPU: its interpreter runs them, on tensors of any machine.

tests/conftest.py sets `TRITON_INTERPRET=1` before Triton is first imported. Compiled code needs a process of its own,
without the variable. Where there is no interpreter, the files here are skipped without being imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    import triton
except ModuleNotFoundError:
    REASON_TO_SKIP = "Triton is not installed (requirements-dev.txt has it)"
else:
    REASON_TO_SKIP = "" if triton.knobs.runtime.interpret else "TRITON_INTERPRET is set to something other than 1"


class SkippedModule(pytest.Module):
    """A test file that is not imported, because what it tests cannot run."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        pytest.skip(REASON_TO_SKIP, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return SkippedModule.from_parent(parent, path=module_path) if REASON_TO_SKIP else None

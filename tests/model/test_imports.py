"""What opening an engine brings into the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "model/demo"


@pytest.mark.parametrize("checkpoint", ["persimmon-demo", "mpt-demo", "llama-demo"])
def test_torchs_compiler_is_not_imported(checkpoint: str) -> None:
    """Some operations on the device `meta` import it: a second of the start, and 145 MB that nothing uses."""
    program = f"""
import sys
from model.interface import SamplingParams
from model.open_engine import open_engine
engine = open_engine({str(DEMO / checkpoint)!r}, device="cpu")
engine.generate(["Hello"], SamplingParams(max_tokens=2))
engine.close()
print([name for name in ("torch._dynamo", "torch._inductor", "sympy", "numba") if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=DEMO.parents[1], check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"

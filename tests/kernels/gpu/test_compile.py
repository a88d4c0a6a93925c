"""Kernels compile for GPUs that are not here: without spills, with wide loads, and what is wrong is found.

Compiling is done in processes of their own, without the interpreter that the other tests of this folder switch on. To
stay quick, each kernel function's first case is compiled, for sm_90; `make compile-kernels` does all cases for sm_80
and sm_90 and writes the table in results/kernels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")

from kernels.gpu.compile.machine_code import read_listing

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

LISTING = """
 Function one:
  REG:40 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:584 TEXTURE:0 SURFACE:0 SAMPLER:0
        /*0000*/                   LDC R1, c[0x0][0x28] ;                     /* 0x00000a00ff017b82 */
        /*00e0*/                   LDG.E.64 R4, desc[UR10][R4.64] ;           /* 0x0000000a04047981 */
        /*01e0*/              @!P0 LDG.E.128.CONSTANT R8, desc[UR10][R12.64] ; /* 0x0000000a0c088981 */
        /*01f0*/              @!UP1 LDG.E.EF.LTC128B R8, desc[UR10][R12.64] ; /* 0x0000000a0c088981 */
        /*0200*/                   LDGSTS.E.BYPASS.LTC128B.128 [R5], [R2.64] ; /* 0x0000000a0c088981 */
        /*0210*/                   LDG.E.U16 R8, desc[UR10][R12.64] ;         /* 0x0000000a0c088981 */
        /*0220*/               @P0 STL.64 [R1+0x8], R2 ;                      /* 0x0000000a0c088981 */
        /*0230*/                   STG.E.128 desc[UR10][R14.64], R4 ;         /* 0x000000040e007986 */
"""


def run(*arguments: str, interpret: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), **variables}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_what_a_listing_says() -> None:
    code = read_listing(LISTING)
    assert (code.registers, code.stack_bytes, code.local_accesses) == (40, 16, 1)
    assert code.loads == {16: 2, 8: 1, 4: 1, 2: 1}


@pytest.mark.parametrize("listing", ["", "REG:40 STACK:16 SHARED:0 LOCAL:0", LISTING.replace("REG:", "REGISTERS ")])
def test_another_format_is_an_error(listing: str) -> None:
    with pytest.raises(ValueError, match="format has changed"):
        read_listing(listing)


def test_what_is_wrong_is_found() -> None:
    done = run("tests/example_kernel.py")
    assert done.returncode == 0, done.stderr
    good, scalar, spills, broken = json.loads(done.stdout)
    assert good["problems"] == []
    assert good["code"]["stack_bytes"] == good["code"]["local_accesses"] == 0
    assert 0 < good["code"]["registers"] <= 64
    assert good["code"]["loads"] == {"16": 1, "8": 1}  # 1024 entries of 2 bytes by 128 threads, and the row's number
    assert scalar["problems"] == ["reads 16 of 16 bytes by loads narrower than 16"]
    (problem,) = (one for one in spills["problems"] if one.startswith("spills"))
    assert spills["code"]["stack_bytes"] > 0, problem
    assert spills["code"]["local_accesses"] > 0, problem
    assert broken["code"] is None
    assert broken["problems"][0].startswith("does not compile")


def test_every_kernel_compiles_for_sm_90(tmp_path: Path) -> None:
    done = run("-m", "kernels.gpu.compile", "--first", "--arch", "90", "--jobs", "2", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    report: dict[str, Any] = json.loads((tmp_path / "compile.json").read_text())
    assert report["cases"]
    page = (tmp_path / "compile.md").read_text()
    assert f"{len(report['cases'])} compilations for sm_90" in page
    assert all(one["name"] in page and one["code"]["stack_bytes"] == 0 for one in report["cases"])


def test_interpreted_kernels_are_not_compiled() -> None:
    done = run("-m", "kernels.gpu.compile", interpret=True)
    assert done.returncode == 1
    assert done.stderr == "compile: TRITON_INTERPRET is set, and an interpreted kernel cannot be compiled: unset it\n"


def test_a_module_that_is_not_there() -> None:
    done = run("-m", "kernels.gpu.compile", "--module", "no_such_kernel")
    assert done.returncode == 1
    assert "no such module: no_such_kernel" in done.stderr

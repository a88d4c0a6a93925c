"""Machine code of the kernels: from a file if it was compiled before, else compiled in a process of its own.

Numba and the compiler take 120 MB of memory, which a process that serves a model need not have. LLVM's linker, which
puts the code to its place, is left with 17.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from kernels.cpu.threads import libgomp

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
MADV_DONTNEED = 4  # <bits/mman-linux.h>
OPENMP = ("omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier")
# What Numba calls where a function raises; kernels do not.
NEVER_CALLED = (
    "NRT_Free",
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
    "numba_unpickle",
)

_linked: list[Any] = []  # the code is freed with its engine


@cache
def address(module: str, size: int) -> int:
    """Address of a kernel, ready to run.

    Args:
        module: of this folder, with a function `build`. size: what the kernel is compiled for, such as the numbers of
            a head.

    Raises:
        RuntimeError: it cannot be compiled.
    """
    name, code = _compiled(module, size).split(b"\n", 1)
    try:
        return _link(name.decode(), code)
    finally:
        _forget_llvm()


def _compiled(module: str, size: int) -> bytes:
    file = f"{module}-{size}-{_fingerprint()}.o"
    for folder in _folders():
        if (code := _kept(folder / file)) is not None:
            return code
    logger.info("compiling the kernel %s for size %d, which is done once and takes some seconds", module, size)
    with tempfile.TemporaryDirectory() as made:
        new = Path(made) / file
        done = subprocess.run(
            [sys.executable, "-m", "kernels.cpu.compile", module, str(size), str(new)],
            cwd=FOLDER.parents[1],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise RuntimeError(
                f"the kernel {module} cannot be compiled for size {size} ({last[0]}): choose kernels='reference'"
            )
        code = new.read_bytes()
    for folder in _folders():
        if _keep(code, folder / file):
            break
    return code


def _kept(file: Path) -> bytes | None:
    """The code in a file, if it is there as it was written: LLVM would crash on less."""
    try:
        digest, code = file.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return code if digest == _digest(code) else None


def _digest(code: bytes) -> bytes:
    return hashlib.sha256(code).hexdigest().encode()


def _keep(code: bytes, file: Path) -> bool:
    """Write a file that is there whole or not at all; whether that could be done."""
    beside = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(_digest(code) + b"\n" + code)
        beside.replace(file)
    except OSError:
        return False
    return True


def _folders() -> list[Path]:
    """Where code is kept: beside the sources, or where those cannot be written, with the user's caches."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [FOLDER / "__pycache__", caches / "numba-kernels"]


@cache
def _fingerprint() -> str:
    """Of all that decides what the code is: the sources, the compiler and the processor."""
    digest = hashlib.sha256()
    for source in sorted(FOLDER.glob("*.py")):
        digest.update(source.read_bytes())
    for part in (
        version("numba"),
        version("llvmlite"),
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


@cache
def vector_length() -> int:
    """float32 numbers in the processor's vectors: 16 with AVX-512, else 8, which LLVM makes of what there is."""
    return 16 if llvm.get_host_cpu_features().get("avx512f") else 8


def _link(name: str, code: bytes) -> int:
    process = ctypes.CDLL(None)
    for symbols, library, source in ((OPENMP, libgomp(), None), (NEVER_CALLED, process, "abort")):
        for symbol in symbols:
            function = getattr(library, source or symbol)
            llvm.add_symbol(symbol, ctypes.cast(function, ctypes.c_void_p).value)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _linked.append(engine)
    found: int = engine.get_function_address(name)
    if not found:
        raise RuntimeError(f"the compiled kernel has no function {name}")
    return found


def _forget_llvm() -> None:
    """Let go of the memory that LLVM's program is read into; Linux reads it again if it should be needed."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in maps:
        addresses, permissions, *_, path = line.split(maxsplit=5)
        if permissions == "r-xp" and "libllvmlite" in path:  # nothing has been written there
            start, end = (int(each, 16) for each in addresses.split("-"))
            madvise(start, end - start, MADV_DONTNEED)

"""Compiled kernels on the threads that torch itself uses.

Threads of another pool would wait for the cores: those of OpenMP go on looking for work for a while after every
operation of torch. So a kernel is a function of C that every one of torch's threads calls once (GOMP_parallel, GCC's
libgomp), with the number of the thread as `omp_get_thread_num` gives it.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch


@cache
def missing() -> str | None:
    """Why kernels cannot run here; `None` if they can. Nothing is compiled."""
    if find_spec("numba") is None:
        return "Numba is not installed"
    if _libgomp_path() is None:
        return "torch does not bring GCC's OpenMP library here"
    return None


def _libgomp_path() -> Path | None:
    """The library in torch's own package, as its wheels for Linux have it; loading it again gives the same one."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return found[0] if len(found) == 1 else None


@cache
def libgomp() -> ctypes.CDLL:
    """torch's OpenMP library.

    Raises:
        OSError: there is none; `missing` says so first.
    """
    path = _libgomp_path()
    if path is None:
        raise OSError(f"there is no single libgomp beside {torch.__file__}")
    library = ctypes.CDLL(str(path))
    library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    library.GOMP_parallel.restype = None
    return library


def run(kernel: int, integers: list[int], numbers: list[float]) -> None:
    """Call a kernel once on each of torch's threads, and return when all are done.

    Args:
        kernel: address of a function void (int64 *integers), whose first entry will be the address of the float64
            `numbers`.
        integers: sizes, strides and the addresses of tensors, which must live until the return.
    """
    floats = (ctypes.c_double * max(1, len(numbers)))(*numbers)
    given = (ctypes.c_int64 * (1 + len(integers)))(ctypes.addressof(floats), *integers)
    libgomp().GOMP_parallel(kernel, ctypes.addressof(given), torch.get_num_threads(), 0)

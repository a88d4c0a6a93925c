"""From a case to machine code, without a GPU, and what is wrong with it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.gpu.cases import CompileCase
from kernels.gpu.compile.machine_code import WIDE, MachineCode, read_cubin
from kernels.gpu.modules import modules_with

WARP_SIZE = 32
# Most shared memory a block may have, bytes (CUDA C++ Programming Guide, "Technical Specifications per Compute
# Capability").
SHARED_LIMITS = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024}
# Loads of these widths may come from tables of integers, which are read one entry at a time.
_INTEGER_BYTES = {"*i1": 1, "*i32": 4, "*i64": 8}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """One case on one architecture.

    Attributes:
        module, name, kernel: the file, the case and the function. arch: 80 for sm_80.
        num_warps, num_stages: as launched. shared_bytes: of a block.
        code: `None` if it does not compile.
        seconds: that compiling took, almost none if it was in Triton's cache.
        problems: what is wrong, in words; none if nothing is.
    """

    module: str
    name: str
    kernel: str
    arch: int
    num_warps: int
    num_stages: int
    shared_bytes: int
    code: MachineCode | None
    seconds: float
    problems: tuple[str, ...]


def compile_case(module: str, index: int, arch: int) -> Compiled:
    """Compile case number `index` of a module; picklable arguments, for a pool of processes.

    Raises:
        ValueError: the machine code could not be read.
    """
    return compile_kernel(modules_with("compile_cases")[module].compile_cases()[index], module=module, arch=arch)


def compile_kernel(case: CompileCase, *, module: str, arch: int) -> Compiled:
    """Compile one case; one that does not compile has that as its problem."""
    start = time.perf_counter()
    shared_bytes, code = 0, None
    try:
        compiled = triton.compile(
            _source(case),
            target=GPUTarget("cuda", arch, WARP_SIZE),
            options={"num_warps": case.num_warps, "num_stages": case.num_stages},
        )
    except Exception as error:  # Triton's passes, LLVM and ptxas each have their own
        lines = str(error).strip().splitlines()
        problems: tuple[str, ...] = (f"does not compile: {type(error).__name__}: {lines[-1] if lines else ''}",)
    else:
        shared_bytes = int(compiled.metadata.shared)
        code = read_cubin(compiled.asm["cubin"], cuobjdump=triton.knobs.nvidia.cuobjdump.path)
        problems = tuple(find_problems(case, code, arch=arch, shared_bytes=shared_bytes))
    return Compiled(
        module=module,
        name=case.name,
        kernel=case.kernel.__name__,
        arch=arch,
        num_warps=case.num_warps,
        num_stages=case.num_stages,
        shared_bytes=shared_bytes,
        code=code,
        seconds=time.perf_counter() - start,
        problems=problems,
    )


def find_problems(case: CompileCase, code: MachineCode, *, arch: int, shared_bytes: int) -> list[str]:
    """What is wrong, in words.

    Where 16-byte loads are demanded, they must bring at least half of the bytes of all load instructions; tables of
    integers (blocks, lengths, slots) are not counted.
    """
    problems = []
    if code.stack_bytes or code.local_accesses:
        problems.append(f"spills: {code.stack_bytes} bytes of local memory, {code.local_accesses} accesses to it")
    limit = SHARED_LIMITS[arch]
    if shared_bytes > limit:
        problems.append(f"asks for {shared_bytes} bytes of shared memory, of which sm_{arch} has {limit}")
    if case.loads_16_bytes:
        exempt = {_INTEGER_BYTES[kind] for kind in case.signature.values() if kind in _INTEGER_BYTES}
        wide = WIDE * code.loads.get(WIDE, 0)
        narrow = sum(width * count for width, count in code.loads.items() if width < WIDE and width not in exempt)
        if not wide or narrow > wide:
            problems.append(f"reads {narrow} of {wide + narrow} bytes by loads narrower than {WIDE}")
    return problems


def _source(case: CompileCase) -> ASTSource:
    """Triton's description of the case.

    Raises:
        ValueError: its names are not the kernel's arguments.
    """
    arguments = case.kernel.arg_names
    if missing := set(arguments) ^ (set(case.signature) | set(case.constants)):
        raise ValueError(f"{case.name!r} and {case.kernel.__name__} differ in {', '.join(sorted(missing))}")
    if unknown := set(case.divisible_by_16) - set(case.signature):
        raise ValueError(f"{case.name!r} says {', '.join(sorted(unknown))} can be divided by 16, and has none")
    signature = {name: case.signature.get(name, "constexpr") for name in arguments}
    attributes = {(arguments.index(name),): [["tt.divisibility", 16]] for name in case.divisible_by_16}
    return ASTSource(case.kernel, signature, dict(case.constants), attributes)

"""Compile all kernels for GPUs that are not here; exit 1 if one spills, does not fit, or reads in small pieces.

python -m kernels.gpu.compile                        all cases for sm_80 and sm_90, into results/kernels
python -m kernels.gpu.compile --module gemv          one module's, shown and not written
python -m kernels.gpu.compile --first --arch 90      each kernel's first case, shown and not written
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[3] / "results" / "kernels"
ARCHS = (80, 90)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m kernels.gpu.compile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--module", nargs="+", default=[], metavar="NAME", help="only these modules of kernels.gpu")
    parser.add_argument("--arch", nargs="+", type=int, default=list(ARCHS), choices=(80, 86, 89, 90))
    parser.add_argument("--first", action="store_true", help="each kernel function's first case alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: the cores)")
    parser.add_argument(
        "--output", type=Path, help=f"default: {RESULTS.relative_to(RESULTS.parents[1])}, if all is run"
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs} is not allowed: it must be at least 1")
    if options.output is None and not options.module and not options.first and tuple(options.arch) == ARCHS:
        options.output = RESULTS
    return options


def main(arguments: list[str] | None = None) -> int:
    """0 if nothing is wrong, else 1 after a sentence for each problem on stderr."""
    options = parse(arguments)
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        print(
            "compile: TRITON_INTERPRET is set, and an interpreted kernel cannot be compiled: unset it", file=sys.stderr
        )
        return 1
    try:
        import triton
    except ImportError:
        print("compile: Triton is not installed: pip install triton (Linux)", file=sys.stderr)
        return 1
    from kernels.gpu.compile.ahead_of_time import compile_case
    from kernels.gpu.compile.table import as_json, write
    from kernels.gpu.modules import modules_with

    modules = modules_with("compile_cases")
    if unknown := sorted(set(options.module) - set(modules)):
        print(f"compile: no such module: {', '.join(unknown)}; there are {', '.join(modules)}", file=sys.stderr)
        return 1
    work = []
    for name, module in modules.items():
        if options.module and name not in options.module:
            continue
        seen = set()
        for index, case in enumerate(module.compile_cases()):
            if not (options.first and case.kernel.__name__ in seen):
                work += [(name, index, arch) for arch in options.arch]
            seen.add(case.kernel.__name__)
    compiled = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for one in pool.map(compile_case, *zip(*work, strict=True)) if work else ():
            compiled.append(one)
            code = one.code
            found = "" if code is None else f"{code.registers} registers, loads {dict(code.loads)}"
            print(f"{one.seconds:5.1f} s  sm_{one.arch}  {one.name}: {'; '.join([found, *one.problems])}", flush=True)
    problems = [f"{one.name}, sm_{one.arch}: {problem}" for one in compiled for problem in one.problems]
    if options.output is not None:
        ptxas = triton.knobs.nvidia.ptxas.version
        for path in write(as_json(compiled, {"triton": version("triton"), "ptxas": ptxas}), options.output):
            print(path)
    for problem in problems:
        print(f"compile: {problem}", file=sys.stderr)
    print(f"{len(compiled)} compilations, {len(problems)} problems")
    return 1 if problems or not compiled else 0


if __name__ == "__main__":
    sys.exit(main())

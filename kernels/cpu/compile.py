"""Compile a kernel: `python -m kernels.cpu.compile MODULE SIZE FILE`.

The file gets the function's name, a line feed and the object code.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """See above; `kernels.cpu.code` is who calls it."""
    module, size, file = sys.argv[1:]
    kernel = import_module(f"kernels.cpu.{module}").build(int(size))
    Path(file).write_bytes(kernel._wrapper_name.encode() + b"\n" + kernel._library._get_compiled_object())


if __name__ == "__main__":
    main()

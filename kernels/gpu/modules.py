"""The kernel files of this folder, found by what they have: `compile_cases()` and `bench_cases()`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import kernels.gpu


def modules_with(function: str) -> dict[str, ModuleType]:
    """Modules of `kernels.gpu` with a function of this name, by their own names, sorted. They are imported for it.

    Args:
        function: `compile_cases` or `bench_cases`.
    """
    names = sorted(each.name for each in pkgutil.iter_modules(kernels.gpu.__path__) if not each.ispkg)
    modules = {name: importlib.import_module(f"kernels.gpu.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, function)}

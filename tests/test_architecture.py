"""Import arrows point down, and our folders do not stand in anybody's way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("app", "evals", "model", "kernels")
# What a folder may import of ours, beside itself.
ALLOWED = {
    "kernels": (),
    "model": ("kernels",),
    # The page's button trains a classification head on the running engine; what trains may not know the app.
    "app": ("model.interface", "model.open_engine", "model.finetune.classify"),
    "evals": ("model.interface", "model.open_engine", "model.probes", "model.checkpoint.describe", "model.speed"),
}
NO_TORCH = (
    "model/interface",
    "model/engine/request.py",
    "model/engine/block_pool.py",
    "model/engine/scheduler.py",
    "model/detokenizer.py",
    "model/chat_template.py",
)


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("folder", OURS)
def test_imports_point_down(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for module in imported_modules(path):
            if module.split(".")[0] in OURS and module.split(".")[0] != folder:
                assert any(
                    module == allowed or module.startswith(f"{allowed}.") for allowed in ALLOWED[folder]
                ) or module in {allowed.split(".")[0] for allowed in ALLOWED[folder]}, f"{path} imports {module}"


@pytest.mark.parametrize("path", NO_TORCH)
def test_imports_no_torch(path: str) -> None:
    program = f"import sys, {path.removesuffix('.py').replace('/', '.')}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_kernels_is_only_a_docstring() -> None:
    """transformers probes for PyPI's package of this name; ours must not look like it."""
    tree = ast.parse((ROOT / "kernels" / "__init__.py").read_text())
    assert len(tree.body) == 1
    assert isinstance(tree.body[0], ast.Expr)


@pytest.mark.slow
def test_libraries_import_from_the_root() -> None:
    program = "import transformers, lm_eval, gradio; from transformers import PersimmonForCausalLM"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

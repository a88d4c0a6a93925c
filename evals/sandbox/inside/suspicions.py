"""Why a person should read a program before believing its verdict. A list of reasons, never a verdict."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What none of HumanEval's problems asks for.
_MODULES = _words(
    "_ctypes _thread asyncio atexit builtins codecs ctypes dis faulthandler fcntl gc glob http importlib inspect io "
    "linecache marshal mmap multiprocessing os pathlib pickle pkgutil platform posix pty resource runpy select shutil "
    "signal site socket sqlite3 ssl subprocess sysconfig tempfile threading traceback types unittest urllib weakref "
    "concurrent zipimport"
)
_NAMES = _words(
    "__builtins__ __import__ __loader__ __spec__ breakpoint compile delattr eval exec exit globals input locals open "
    "quit setattr vars SystemExit KeyboardInterrupt BaseException"
)
# Names of HumanEval's own tests. A function's own variable of that name is nothing to look at; a global one is.
_TEST_NAMES = frozenset({"candidate", "check", "METADATA"})
_ATTRIBUTES = _words(
    "__bases__ __base__ __builtins__ __class__ __closure__ __code__ __dict__ __globals__ __mro__ __subclasses__ "
    "__traceback__ _exit _getframe _current_frames ag_frame cr_frame excepthook exit f_back f_builtins f_globals "
    "f_locals gi_frame modules mro setprofile settrace stderr stdin stdout tb_frame tb_next"
)
# Methods by which a value decides for itself what it equals or whether it is true.
_METHODS = _words("__eq__ __ne__ __lt__ __le__ __gt__ __ge__ __bool__ __hash__ __instancecheck__")


def suspicions(tree: ast.AST) -> list[str]:
    """Short reasons, each once, in the order of the program."""
    reasons = [reason for node in ast.walk(tree) for reason in _reasons(node)]
    if isinstance(tree, ast.Module):
        reasons += [f"names {name} of the test" for name in _globals(tree) if name in _TEST_NAMES]
    return list(dict.fromkeys(reasons))


def _globals(tree: ast.Module) -> Iterator[str]:
    """Names the program binds at its top level, or declares global further down."""
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names


def _reasons(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (f"imports {name.name}" for name in names if name.name.split(".")[0] in _MODULES)
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] in _MODULES:
            yield f"imports {module}"
        case ast.ImportFrom(module="sys", names=names):
            yield from (f"imports sys.{name.name}" for name in names if name.name in _ATTRIBUTES)
        case ast.Name(id=name) if name in _NAMES:
            yield f"uses {name}"
        case ast.Attribute(attr=name) if name in _ATTRIBUTES:
            yield f"uses .{name}"
        case ast.FunctionDef(name=name) if name in _METHODS:
            yield f"defines {name}"
        case ast.Constant(value=str(text)) if text in _ATTRIBUTES | _METHODS | _NAMES - {"input", "exit", "open"}:
            yield f"has the text {text!r}"
        case _:
            pass

"""How a sandbox process is started at each level, and what it is told to do with itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from evals.sandbox.errors import LevelUnavailable

INSIDE = Path(__file__).resolve().parent / "inside"
_BWRAP = "bwrap"
_START = "import sys; sys.path.insert(0, sys.argv[1]); from inside.server import serve; del sys.path[0]; serve()"
# No site, no user site, no current folder, no bytecode written.
_FLAGS = ("-S", "-s", "-P", "-B")
# Sets iterate in the same order in every run, so verdicts can be repeated.
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_LINKER_CACHE = "/etc/ld.so.cache"


class Level(StrEnum):
    """How a program is held, the strongest first."""

    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"
    NONE = "none"


def command(level: Level) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a sandbox process.

    Raises:
        LevelUnavailable: what the level needs is not installed.
    """
    if level is not Level.BUBBLEWRAP:
        python = _python()
        return [str(python), *_FLAGS, "-c", _START, str(INSIDE.parent)], _ENVIRONMENT
    bwrap = shutil.which(_BWRAP)
    if bwrap is None:
        raise LevelUnavailable("bwrap is not installed")
    return _bubblewrap(bwrap), {}


def readable_folders(level: Level) -> list[str] | None:
    """The folders Landlock leaves readable; `None` where the level has other means."""
    if level is not Level.NAMESPACES:
        return None
    return [*_python_libraries(), *_SYSTEM_LIBRARIES, str(INSIDE)]


def bubblewrap_version() -> str | None:
    """As bubblewrap says it, `None` where it is not installed."""
    bwrap = shutil.which(_BWRAP)
    if bwrap is None:
        return None
    done = subprocess.run([bwrap, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.removeprefix("bubblewrap").strip() or None


def _bubblewrap(bwrap: str) -> list[str]:
    """A world of Python, the system's libraries and `inside`, all read-only, with no /proc, no /dev and no /tmp."""
    arguments = [bwrap]
    for namespace in ("user", "pid", "net", "ipc", "uts", "cgroup-try"):
        arguments.append(f"--unshare-{namespace}")
    # Started by root, bubblewrap would leave the program root's rights over the new namespaces.
    arguments += ["--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--disable-userns"]
    arguments += ["--new-session", "--die-with-parent", "--as-pid-1", "--clearenv"]
    for name, value in {**_ENVIRONMENT, "LD_LIBRARY_PATH": "/python/lib"}.items():
        arguments += ["--setenv", name, value]
    python = _python()
    arguments += ["--ro-bind", str(python), f"/python/bin/{python.name}"]
    for folder in _python_libraries():
        arguments += ["--ro-bind", folder, f"/python/{Path(folder).name}"]
    for path in (*_SYSTEM_LIBRARIES, _LINKER_CACHE):
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind-try", path, path]
    arguments += ["--ro-bind", str(INSIDE), f"/sandbox/{INSIDE.name}"]
    # The root is a tmpfs that would otherwise take files until memory is full.
    arguments += ["--remount-ro", "/", "--chdir", "/"]
    return [*arguments, "--", f"/python/bin/{python.name}", *_FLAGS, "-c", _START, "/sandbox"]


def _python() -> Path:
    """The interpreter itself, outside any virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _python_libraries() -> list[str]:
    names = dict.fromkeys(("lib", sys.platlibdir))
    return [str(path) for name in names if (path := Path(sys.base_prefix) / name).is_dir()]

"""Landlock: which folders a process may read. It may write nowhere.

https://docs.kernel.org/userspace-api/landlock.html. Not covered by Landlock: whether a file exists, its size and its
dates can still be asked for.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from . import kernel

# Numbers are the same on every processor.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# How many rights over files each version knows, from the lowest bit on: version 2 adds refer, 3 truncate, 5 ioctl.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_RIGHTS_SINCE_5 = 16
# Version 4: bind and connect (TCP). Version 6: abstract sockets and signals across the border.
_NET_RIGHTS, _SCOPES = 0b11, 0b11
MIN_VERSION = 3


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Landlock's version in this kernel, 0 if there is none."""
    try:
        return kernel.system_call("landlock_create_ruleset", _CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def read_only(folders: Sequence[str]) -> None:
    """Leave this process the right to read these folders, and no other right over files.

    Args:
        folders: those that do not exist are passed over.

    Raises:
        OSError: the kernel has no Landlock, or too old a one (before version 3 files could be truncated).
    """
    found = version()
    if found < MIN_VERSION:
        raise OSError(f"Landlock: version {found} of this kernel is below {MIN_VERSION}")
    files = (1 << _FILE_RIGHTS.get(found, _FILE_RIGHTS_SINCE_5)) - 1
    ruleset = _Ruleset(files, _NET_RIGHTS if found >= 4 else 0, _SCOPES if found >= 6 else 0)
    size = 8 if found < 4 else 16 if found < 6 else 24
    address = ctypes.c_void_p(ctypes.addressof(ruleset))
    rules = kernel.system_call("landlock_create_ruleset", _CREATE_RULESET, address, size, 0)
    try:
        for folder in folders:
            _allow_reading(rules, folder)
        kernel.no_new_privileges()
        kernel.system_call("landlock_restrict_self", _RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow_reading(rules: int, folder: str) -> None:
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        rule = _PathBeneath(_EXECUTE | _READ_FILE | _READ_DIR, descriptor)
        address = ctypes.c_void_p(ctypes.addressof(rule))
        kernel.system_call("landlock_add_rule", _ADD_RULE, rules, _RULE_PATH_BENEATH, address, 0)
    finally:
        os.close(descriptor)

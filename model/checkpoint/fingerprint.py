"""Hashes that say which weights and which tokenizer gave an answer."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from model.checkpoint.weight_files import read_entries

_SHA256 = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. In the Hub's cache a large file is a link to one named by its SHA-256: that name is
    taken, which saves reading the file."""
    target = path.resolve()
    if path.is_symlink() and _SHA256.fullmatch(target.name):
        return target.name
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_sha256(folder: Path) -> str:
    """One hash over config.json and all weight files: SHA-256 of lines `<file's sha256>  <file name>`."""
    files = {entry.file for entry in read_entries(folder).values()} | {folder / "config.json"}
    lines = "".join(f"{file_sha256(file)}  {file.name}\n" for file in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()

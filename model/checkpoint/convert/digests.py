"""Which published file a source is, by its md5, and its SHA-256 for the record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNK: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """A tar that Adept published: file name, SPDX-like licence identifier as the Hub writes it, licence in words."""

    file_name: str
    licence: str
    terms: str


# md5 and licences: persimmon-ai-labs/adept-inference, README.md.
PUBLISHED: Final = {
    "cd0320cba9efad9ccd18e9ec4d16ae1b": PublishedRelease("8b_base_model_release.tar", "apache-2.0", "Apache 2.0"),
    "663aeace07269c44e90f4e8bcd07f32a": PublishedRelease(
        "8b_chat_model_release.tar", "cc-by-nc-4.0", "CC BY-NC 4.0, not for commercial use"
    ),
}


@dataclass(frozen=True, slots=True)
class Digests:
    """Of a whole file."""

    md5: str
    sha256: str
    size: int


def file_digests(path: Path, *, read: Callable[[int], object]) -> Digests:
    """Both digests in one pass; `read` is told the number of bytes after each chunk."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
            read(len(chunk))
    return Digests(md5.hexdigest(), sha256.hexdigest(), size)

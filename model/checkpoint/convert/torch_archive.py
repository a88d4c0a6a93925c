"""The zip archive that torch.save writes (torch 1.6 and later), mapped into memory and read where it lies.

Entries are stored, not compressed: `<name>/data.pkl` describes the objects and `<name>/data/<key>` holds the elements
of one storage (torch/csrc/jit/serialization/pickler.h; torch.serialization._save).
"""

from __future__ import annotations

import io
import mmap
import struct
import warnings
import zipfile
import zlib
from typing import Final

import torch
from torch import Tensor

from model.checkpoint.convert.release_files import Stretch
from model.checkpoint.convert.restricted_pickle import RefusedPickle, StoredTensor, load_restricted
from model.checkpoint.convert.wording import shown
from model.checkpoint.errors import CheckpointError

LARGEST_PICKLE: Final = 16 << 20
SLICE_BYTES: Final = 4 << 20
ZIP_SIGNATURE: Final = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field


class TorchArchive:
    """One rank's file. Its tensors are views of the file's bytes, valid as long as the archive is referenced.

    Raises:
        CheckpointError: the file is no such archive, is cut short, or holds entries as torch.save does not write them.
    """

    def __init__(self, stretch: Stretch) -> None:
        self.name = stretch.name
        self._size = stretch.size
        if stretch.size < len(ZIP_SIGNATURE):
            raise CheckpointError(f"{shown(self.name)} has only {stretch.size} bytes: fetch the release again")
        with stretch.path.open("rb") as stream:
            # Read-only and shared: a private map would count against the memory that may be promised.
            self._map = mmap.mmap(stream.fileno(), stretch.offset + stretch.size, access=mmap.ACCESS_READ)
        self._bytes = memoryview(self._map)[stretch.offset :]
        self._check_signature()
        try:
            with zipfile.ZipFile(_Window(self._bytes)) as archive:
                self._entries = self._list_entries(archive)
                self._pickle = self._read_pickle(archive)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, struct.error) as error:
            raise CheckpointError(
                f"{shown(self.name)} is cut short or damaged ({shown(error)}): fetch the release again"
            ) from None
        self._checked: set[str] = set()

    def load(self) -> object:
        """What the archive describes.

        Raises:
            CheckpointError: the pickle holds what a release does not.
        """
        try:
            return load_restricted(self._pickle)
        except RefusedPickle as error:
            raise CheckpointError(f"{shown(self.name)} is refused: it holds {error}") from None

    def tensor(self, stored: StoredTensor) -> Tensor:
        """A read-only view of the stored elements, after their checksum has been compared once.

        Raises:
            CheckpointError: the elements are missing, too few, or damaged.
        """
        entry = self._entries.get(f"data/{stored.key}")
        wanted = stored.storage_elements * stored.dtype.itemsize
        if entry is None or entry.file_size != wanted:
            raise CheckpointError(
                f"{shown(self.name)} holds {0 if entry is None else entry.file_size} bytes for the storage "
                f"{shown(stored.key)}, which needs {wanted}: fetch the release again"
            )
        content = self._content(entry)
        if stored.key not in self._checked:
            checksum = 0
            for start in range(0, len(content), SLICE_BYTES):
                checksum = zlib.crc32(content[start : start + SLICE_BYTES], checksum)
                self.release_pages()
            if checksum != entry.CRC:
                raise CheckpointError(
                    f"{shown(self.name)} has a wrong checksum for the storage {shown(stored.key)}: fetch it again"
                )
            self._checked.add(stored.key)
        if not content:
            return torch.empty(stored.shape, dtype=stored.dtype)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            raw = torch.frombuffer(content, dtype=torch.uint8)
        if raw.data_ptr() % stored.dtype.itemsize:
            raw = raw.clone()
        return raw.view(stored.dtype).as_strided(stored.shape, stored.strides, stored.offset)

    def release_pages(self) -> None:
        """Let the operating system take back the memory of what was read so far."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _check_signature(self) -> None:
        start = bytes(self._bytes[:4])
        if start[:1] == b"\x80":
            raise CheckpointError(
                f"{shown(self.name)} is in torch.save's form from before PyTorch 1.6: load it and save it again with a "
                "later one"
            )
        if start != ZIP_SIGNATURE:
            raise CheckpointError(f"{shown(self.name)} is no file of torch.save's: fetch the release again")

    def _list_entries(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if name in entries:
                raise CheckpointError(f"{shown(self.name)} holds the entry {shown(entry.filename)} twice")
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise CheckpointError(
                    f"{shown(self.name)} holds {shown(entry.filename)} compressed or encrypted: torch.save does neither"
                )
            entries[name] = entry
        return entries

    def _read_pickle(self, archive: zipfile.ZipFile) -> bytes:
        entry = self._entries.get("data.pkl")
        if entry is None:
            raise CheckpointError(f"{shown(self.name)} holds no data.pkl: it is no file of torch.save's")
        if entry.file_size > LARGEST_PICKLE:
            raise CheckpointError(f"{shown(self.name)} describes its tensors in {entry.file_size} bytes: too many")
        order = self._entries.get("byteorder")
        if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
            raise CheckpointError(f"{shown(self.name)} was not written in little-endian byte order: this is needed")
        return archive.read(entry)

    def _content(self, entry: zipfile.ZipInfo) -> memoryview:
        start = entry.header_offset
        header = bytes(self._bytes[start : start + _LOCAL_HEADER.size])
        if len(header) == _LOCAL_HEADER.size:
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            start += _LOCAL_HEADER.size + name_length + extra_length
            if signature == ZIP_SIGNATURE and start + entry.file_size <= self._size:
                return self._bytes[start : start + entry.file_size]
        raise CheckpointError(f"{shown(self.name)} is damaged at {shown(entry.filename)}: fetch the release again")


class _Window(io.RawIOBase):
    """A stretch of mapped bytes as a file, for zipfile."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        if base + offset < 0:
            raise OSError("a seek before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._content) if size < 0 else self._at + size
        data = bytes(self._content[self._at : end])
        self._at += len(data)
        return data

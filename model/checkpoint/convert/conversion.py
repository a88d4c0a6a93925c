"""The conversion from beginning to end."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch

from model.checkpoint.convert.atomic_folder import MARKER, atomic_folder, check_destination
from model.checkpoint.convert.config_files import config_json, generation_config_json, readme, write_json
from model.checkpoint.convert.digests import PUBLISHED, Digests, PublishedRelease, file_digests
from model.checkpoint.convert.hyper_parameters import USED_ARGS, HyperParameters, read_hyper_parameters
from model.checkpoint.convert.names import DROPPED, check_tensors, renames
from model.checkpoint.convert.release import Release, open_release
from model.checkpoint.convert.release_files import ReleaseFiles, find_release_files
from model.checkpoint.convert.shards import plan_shards, write_shards
from model.checkpoint.convert.tensor_parallel import JoinedTensor, stored_dtype
from model.checkpoint.convert.tokenizer_files import LARGEST_MODEL, read_tokenizer, write_tokenizer_files
from model.checkpoint.convert.wording import shown
from model.checkpoint.errors import CheckpointError
from model.checkpoint.fingerprint import file_sha256

Dtype = Literal["bfloat16", "float16", "float32", "keep"]
DTYPES: Final[tuple[Dtype, ...]] = get_args(Dtype)
DEFAULT_SHARD_SIZE: Final = 5_000_000_000
# inv_freq may be stored in bfloat16, which is right to one part in 256.
INV_FREQ_TOLERANCE: Final = 1 / 128
EMBEDDINGS: Final = ("model.embed_tokens.weight", "lm_head.weight")

Progress = Callable[[str, int, int], object]
"""Told what is being done, how many bytes of it are done, and how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """What was done.

    Attributes:
        record: the content of conversion.json.
        warnings: sentences the user should see.
    """

    record: dict[str, Any]
    warnings: tuple[str, ...]


def convert(
    source: Path,
    destination: Path,
    *,
    dtype: Dtype = "bfloat16",
    trim_vocabulary: bool = False,
    shard_size: int = DEFAULT_SHARD_SIZE,
    progress: Progress = lambda stage, done, total: None,
) -> Conversion:
    """Convert a release; memory stays at a slice of a tensor, whatever the size of the model.

    Args:
        source: the published tar, or the folder it unpacks to.
        destination: the folder to make; it appears when everything in it is written.
        dtype: of the weights written; `keep` for the release's own.
        trim_vocabulary: leave out the rows of embedding and head behind the tokenizer's last piece.
        shard_size: most bytes of a weight file.

    Raises:
        CheckpointError: one sentence on what is wrong; nothing is left behind.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype={dtype!r} is not supported: use {', '.join(DTYPES)}")
    try:
        check_destination(destination)
        files = find_release_files(source)
        release = open_release(files.ranks, compared_args=USED_ARGS)
        return _Converter(files, release, source, dtype, trim_vocabulary, shard_size, progress).run(destination)
    except OSError as error:
        raise CheckpointError(f"the conversion stopped: {shown(str(error))}") from error


class _Converter:
    """One run; each method is a step."""

    def __init__(
        self,
        files: ReleaseFiles,
        release: Release,
        source: Path,
        dtype: Dtype,
        trim_vocabulary: bool,
        shard_size: int,
        progress: Progress,
    ) -> None:
        self.files, self.release, self.source, self.dtype = files, release, source, dtype
        self.shard_size, self.progress = shard_size, progress
        self.sizes: HyperParameters = read_hyper_parameters(
            release.args, release.ranks[0].tensors, num_ranks=len(release.ranks)
        )
        self.tokenizer = read_tokenizer(files.tokenizer.read(at_most=LARGEST_MODEL), name=files.tokenizer.name)
        if self.tokenizer.num_pieces > self.sizes.vocab_size:
            raise CheckpointError(
                f"{shown(files.tokenizer.name)} has {self.tokenizer.num_pieces} pieces where the embedding has "
                f"{self.sizes.vocab_size} rows: the tokenizer is not this model's"
            )
        self.vocab_size = self.tokenizer.num_pieces if trim_vocabulary else self.sizes.vocab_size
        self.trim_vocabulary = trim_vocabulary
        self.tensors = self._tensors()
        self._check_dropped()

    def run(self, destination: Path) -> Conversion:
        shards = plan_shards(self.tensors, limit=self.shard_size)
        with atomic_folder(destination) as folder:
            self._check_space(folder)
            digests = self._digests()
            published = PUBLISHED.get(digests[0][1].md5) if self.files.kind == "tar" else None
            hashes = write_shards(folder, shards, written=_counter(self.progress, "writing", self._total()))
            no_json = write_tokenizer_files(folder, self.tokenizer, context_length=self.sizes.max_position_embeddings)
            write_json(
                folder / "generation_config.json", generation_config_json(end_of_text=self.tokenizer.end_of_text)
            )
            if published is not None:
                (folder / "README.md").write_text(readme(published), encoding="utf-8")
            config = config_json(
                self.sizes,
                vocab_size=self.vocab_size,
                end_of_text=self.tokenizer.end_of_text,
                dtype=str(self.tensors[0].dtype).removeprefix("torch."),
            )
            staged = folder / f"{MARKER}.json"  # loaders look for config.json: it comes last
            write_json(staged, config)
            hashes |= {"config.json": file_sha256(staged)}
            hashes |= {
                path.name: file_sha256(path)
                for path in folder.iterdir()
                if path.name not in hashes and not path.name.startswith(MARKER)
            }
            warnings = self._warnings(digests, published, no_json)
            record = self._record(digests, published, hashes, warnings)
            write_json(folder / "conversion.json", record)
            staged.rename(folder / "config.json")
        return Conversion(record=record, warnings=warnings)

    def _tensors(self) -> list[JoinedTensor]:
        ranks = self.release.ranks
        wanted = {rename.source: rename for rename in renames(self.sizes)}
        for rank in ranks:
            check_tensors(wanted, rank.tensors, file=rank.archive.name, num_ranks=len(ranks))
        tensors = []
        for rename in wanted.values():
            stored = stored_dtype(rename, ranks)
            tensors.append(
                JoinedTensor(
                    rename=rename,
                    ranks=ranks,
                    dtype=stored if self.dtype == "keep" else getattr(torch, self.dtype),
                    num_rows=self.vocab_size if rename.target in EMBEDDINGS else rename.shape[0],
                )
            )
        return tensors

    def _check_dropped(self) -> None:
        """The rotary frequencies are not written; they must be what config.json will make of them."""
        dim = int(self.sizes.rotary_share * self.sizes.head_dim)
        expected = self.sizes.rotary_base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        for rank in self.release.ranks:
            for name, stored in rank.tensors.items():
                if not DROPPED.fullmatch(name):
                    continue
                values = rank.archive.tensor(stored).double()
                if values.shape != expected.shape or not torch.allclose(
                    values, expected, rtol=INV_FREQ_TOLERANCE, atol=0
                ):
                    raise CheckpointError(
                        f"{name} holds other frequencies than base {self.sizes.rotary_base:g} over {dim} dimensions "
                        "gives: the checkpoint's args do not describe it"
                    )

    def _total(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    def _check_space(self, folder: Path) -> None:
        needed, free = self._total() + (64 << 20), shutil.disk_usage(folder).free
        if needed > free:
            raise CheckpointError(f"{needed / 1e9:.1f} GB are needed where {free / 1e9:.1f} GB are free: make room")

    def _digests(self) -> list[tuple[str, Digests]]:
        """Of the tar, or of each file used of a folder."""
        paths = [(self.source.name, self.source)]
        if self.files.kind == "folder":
            paths = [(stretch.name, stretch.path) for stretch in (*self.files.ranks, self.files.tokenizer)]
        read = _counter(self.progress, "hashing", sum(path.stat().st_size for _, path in paths))
        return [(name, file_digests(path, read=read)) for name, path in paths]

    def _warnings(
        self, digests: Sequence[tuple[str, Digests]], published: PublishedRelease | None, no_json: str | None
    ) -> tuple[str, ...]:
        warnings = []
        if self.files.kind == "tar" and published is None:
            warnings.append(
                f"the md5 of {digests[0][0]}, {digests[0][1].md5}, is neither of the two that Adept published: this is "
                "another file, or the download is damaged"
            )
        if self.trim_vocabulary and self.vocab_size == self.sizes.vocab_size:
            warnings.append(f"no rows were left out: the tokenizer has a piece for each of the {self.vocab_size}")
        if no_json is not None:
            warnings.append(f"tokenizer.json was not written, so Hugging Face's AutoTokenizer will not load: {no_json}")
        return tuple(warnings)

    def _record(
        self,
        digests: Sequence[tuple[str, Digests]],
        published: PublishedRelease | None,
        hashes: dict[str, str],
        warnings: tuple[str, ...],
    ) -> dict[str, Any]:
        args = self.release.args
        dropped = sorted(name for name in self.release.ranks[0].tensors if DROPPED.fullmatch(name))
        return {
            "format_version": 1,
            "source": {
                "kind": self.files.kind,
                "iteration": self.files.iteration,
                "files": [
                    {"name": name, "bytes": digest.size, "md5": digest.md5, "sha256": digest.sha256}
                    for name, digest in digests
                ],
                "published_as": published.file_name if published else None,
            },
            "options": {"dtype": self.dtype, "trim_vocab": self.trim_vocabulary, "shard_size": self.shard_size},
            "args": {name: _plain(args[name]) for name in USED_ARGS if args.get(name) is not None},
            "tensor_parallel_size": len(self.release.ranks),
            "num_pieces": self.tokenizer.num_pieces,
            "rows_in_release": self.sizes.vocab_size,
            "rows_trimmed": self.sizes.vocab_size - self.vocab_size,
            "tensors": len(self.tensors),
            "parameters": sum(torch.Size(tensor.shape).numel() for tensor in self.tensors),
            "tensors_dropped": dropped,
            "files": {name: {"sha256": hashes[name]} for name in sorted(hashes)},
            "warnings": list(warnings),
            "torch": re.sub(r"\+.*", "", torch.__version__),
        }


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else shown(value)


def _counter(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress(stage, done, total)

    return count

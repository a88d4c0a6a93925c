"""What a checkpoint is and how much memory it needs, without loading its weights.

python -m model.checkpoint.describe CHECKPOINT [--context-length N] [--batch N] [--dtype bfloat16] [--gpu-gb 24]
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from model.checkpoint.card import read_card
from model.checkpoint.classifier import read_own_head
from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.fingerprint import file_sha256, weights_sha256
from model.checkpoint.load import build_model
from model.checkpoint.source import resolve
from model.checkpoint.special_tokens import special_tokens
from model.checkpoint.weight_files import read_entries
from model.interface import EngineError
from model.open_engine import DTYPES
from model.tokenizer import tokenizer_file

GIGA = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """Counts of parameters and bytes; `stored` counts tensors by the dtype they are stored in; `labels` are those of a
    classification head.

    `weight_bytes` and `kv_bytes_per_token` are for the dtype that was asked about.
    """

    name: str
    revision: str | None
    family: str
    num_parameters: int
    labels: tuple[str, ...] = ()
    vocab_size: int
    context_length: int
    stored: dict[str, int]
    stored_bytes: int
    num_files: int
    weights_sha256: str
    tokenizer: str
    tokenizer_sha256: str
    licence: str | None
    notice: str | None
    prompts_begin_with_bos: bool
    dtype: str
    weight_bytes: int
    kv_bytes_per_token: int

    def memory_bytes(self, *, context_length: int, batch: int) -> int:
        """Bytes of weights and of the KV cache of `batch` requests of `context_length` tokens."""
        return self.weight_bytes + self.kv_bytes_per_token * context_length * batch


def describe(checkpoint: str, *, revision: str | None = None, dtype: str = "bfloat16") -> Description:
    """Read headers, config, tokenizer and card of a folder or Hub id; every tensor is checked as on loading.

    Raises:
        CheckpointError: anything about the checkpoint is wrong.
    """
    source = resolve(checkpoint, revision=revision)
    folder = source.folder
    config = read_json(folder / "config.json")
    entries = read_entries(folder)
    model, _ = build_model(folder, config, entries, rope_position_dtype=torch.float32)
    card = read_card(folder, name=checkpoint)
    tokenizer = tokenizer_file(folder)
    head = read_own_head(config, entries, folder=folder, name=source.name, hidden_size=model.config.hidden_size)
    num_parameters = sum(parameter.numel() for parameter in model.parameters()) + (head.weight.size if head else 0)
    files = {entry.file for entry in entries.values()}
    return Description(
        name=source.name,
        revision=source.revision,
        family=config["model_type"],
        num_parameters=num_parameters,
        labels=head.info.labels if head else (),
        vocab_size=model.config.vocab_size,
        context_length=model.config.context_length,
        stored=dict(Counter(entry.dtype for entry in entries.values())),
        stored_bytes=sum(file.stat().st_size for file in files),
        num_files=len(files),
        weights_sha256=weights_sha256(folder),
        tokenizer=tokenizer.name,
        tokenizer_sha256=file_sha256(tokenizer),
        licence=card.licence,
        notice=card.notice,
        prompts_begin_with_bos=special_tokens(folder, config).prompts_begin_with_bos,
        dtype=dtype,
        weight_bytes=num_parameters * DTYPES[dtype].itemsize,
        kv_bytes_per_token=model.config.kv_cache_shape.bytes_per_token(DTYPES[dtype]),
    )


def lines(found: Description, *, context_length: int, batch: int, gpu_gb: float | None) -> Iterator[str]:
    """The description as text; `gpu_gb` in 10^9 bytes."""
    yield f"{found.name}"
    yield f"family        {found.family}, {found.num_parameters:,} parameters, {found.vocab_size:,} tokens known"
    yield f"context       {found.context_length:,} tokens"
    if found.labels:
        yield f"classifier    {len(found.labels)} labels: {', '.join(found.labels)}"
    stored = ", ".join(f"{count} tensors as {dtype}" for dtype, count in sorted(found.stored.items()))
    yield f"stored        {found.stored_bytes / GIGA:.2f} GB in {found.num_files} files: {stored}"
    yield f"weights       sha256 {found.weights_sha256}"
    yield f"tokenizer     {found.tokenizer}, sha256 {found.tokenizer_sha256}"
    yield f"licence       {found.licence or 'not stated in the checkpoint: see where you got it'}"
    if found.notice is not None:
        yield f"notice        {found.notice}"
    total = found.memory_bytes(context_length=context_length, batch=batch)
    yield (
        f"memory        {total / GIGA:.2f} GB in {found.dtype}: weights {found.weight_bytes / GIGA:.2f} GB, KV cache "
        f"{(total - found.weight_bytes) / GIGA:.2f} GB for {batch} x {context_length:,} tokens"
    )
    if gpu_gb is not None:
        room = gpu_gb * GIGA - found.weight_bytes
        if room <= 0:
            yield f"on {gpu_gb:g} GB      does not fit: the weights alone are {found.weight_bytes / GIGA:.2f} GB"
        else:
            verdict = "fits" if total <= gpu_gb * GIGA else "does not fit"
            tokens = int(room // found.kv_bytes_per_token)
            yield f"on {gpu_gb:g} GB      {verdict}; beside the weights there is room for {tokens:,} tokens of KV cache"


def main(arguments: list[str] | None = None) -> int:
    """Print the description; 1 after one sentence on stderr if the checkpoint cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m model.checkpoint.describe", description="What a checkpoint is.")
    parser.add_argument("checkpoint", help="folder or Hub id")
    parser.add_argument("--context-length", type=_positive, help="tokens of each request; default: the model's own")
    parser.add_argument("--batch", type=_positive, default=1, help="requests at once")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--gpu-gb", type=float, help="memory of the GPU in 10^9 bytes")
    options = parser.parse_args(arguments)
    try:
        found = describe(options.checkpoint, dtype=options.dtype)
    except (CheckpointError, EngineError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    context_length = options.context_length or found.context_length
    text = "\n".join(lines(found, context_length=context_length, batch=options.batch, gpu_gb=options.gpu_gb))
    sys.stdout.write(f"{text}\n")
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

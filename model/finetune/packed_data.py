"""A file of examples as packed rows on disk, from which training reads them without holding them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from model.families.registry import family_class
from model.finetune.documents import DataError, read_documents
from model.finetune.encode import DocumentEncoder, EncodedDocument
from model.finetune.packing import pack
from model.finetune.settings import FinetuneSettings

DTYPES = {"token_ids": "int32", "weights": "float32", "lengths": "int32"}
"""Columns of the table, the fields of `model.finetune.packing.Row`."""
COUNTS_NAME = "counts.json"  # written last: a folder without it is unfinished


@dataclass
class Counts:
    """Documents and tokens in the rows; `skipped`: documents left out, `truncated`: cut at the row's end."""

    documents: int = 0
    tokens: int = 0
    skipped: int = 0
    truncated: int = 0


@dataclass(frozen=True)
class PackedData:
    """Rows, and what is in them."""

    rows: Dataset
    counts: Counts


def write_packed(
    path: Path, folder: Path, *, settings: FinetuneSettings, config: Mapping[str, Any], encoder: DocumentEncoder
) -> None:
    """Tokenize and pack the file `path` into `folder`, unless that was done before.

    Raises:
        DataError: the file cannot be used, or nothing of it.
    """
    if (folder / COUNTS_NAME).is_file():
        return
    counts = Counts()
    table: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in DTYPES}
    for row in pack(_encoded(path, counts, settings=settings, config=config, encoder=encoder), settings.row_length):
        for name, dtype in DTYPES.items():
            table[name].append(np.asarray(getattr(row, name), dtype=dtype))
    if not counts.documents:
        raise DataError(f"{path} has no document that fits into row_length={settings.row_length}: raise it")
    features = Features({name: List(Value(dtype)) for name, dtype in DTYPES.items()})
    Dataset.from_dict(table, features=features).save_to_disk(str(folder))
    (folder / COUNTS_NAME).write_text(json.dumps(asdict(counts)), encoding="utf-8")


def read_packed(folder: Path) -> PackedData:
    """What :func:`write_packed` wrote."""
    counts = Counts(**json.loads((folder / COUNTS_NAME).read_text(encoding="utf-8")))
    return PackedData(Dataset.load_from_disk(str(folder)), counts)


def _encoded(
    path: Path, counts: Counts, *, settings: FinetuneSettings, config: Mapping[str, Any], encoder: DocumentEncoder
) -> Iterator[EncodedDocument]:
    """Documents of a file as tokens, none longer than a row; counts what happens to them."""
    template = family_class(config).chat_template
    documents = read_documents(path, template, data_format=settings.data_format, prompt_weight=settings.prompt_weight)
    length = settings.row_length
    for number, document in enumerate(documents, start=1):
        encoded = encoder.encode(document)
        size = len(encoded.token_ids)
        if size > length:
            if settings.too_long == "refuse":
                raise DataError(
                    f"{path}, document {number} has {size:,} tokens but a row only {length:,}: raise row_length, or "
                    "choose too_long=skip or truncate"
                )
            encoded = EncodedDocument(encoded.token_ids[:length], encoded.weights[:length])
            if settings.too_long == "skip" or not any(encoded.weights):  # nothing to learn before the cut
                counts.skipped += 1
                continue
            counts.truncated += 1
        counts.documents += 1
        counts.tokens += len(encoded.token_ids)
        yield encoded

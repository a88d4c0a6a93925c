"""Weights from files into a model, tensor by tensor, straight to the target device and dtype.

The model is built without memory, all names and shapes are checked against the files' headers, and only then is
memory taken: the model once, plus the mapped shard in hand.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint.classifier import SCORE, is_classifier, without_lm_head
from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.safetensors_header import TensorEntry
from model.checkpoint.weight_files import open_tensors, read_entries
from model.families.registry import CausalLM, family_class
from model.layers.joined import give_memory
from model.layers.ops import REFERENCE, Ops

COPY_BYTES = 4 << 20  # a tensor is copied in slices of rows of about this size, so that it never exists twice
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


def load_model(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    rope_position_dtype: torch.dtype = torch.float32,
    ops: Ops = REFERENCE,
) -> CausalLM:
    """A ready model from a folder in Hugging Face's layout.

    Every tensor of the model must be in the files and every tensor in the files must belong to the model. The size
    of the vocabulary is read from the weights, because trimmed derivatives exist whose config still says 262,144.

    Args:
        folder: with config.json and weight files.
        device, dtype: where and as what the weights end up.
        rope_position_dtype: see `RotaryConfig.position_dtype`.
        ops: what its layers compute with.

    Raises:
        CheckpointError: anything about the files is wrong; the text names file and tensor.
    """
    config = read_json(folder / "config.json")
    model, entries = build_model(folder, config, read_entries(folder), rope_position_dtype=rope_position_dtype, ops=ops)
    give_memory(model.to(dtype).eval(), device)
    _copy_tensors(dict(model.named_parameters()), entries)
    return model


def build_model(
    folder: Path,
    config: Mapping[str, Any],
    entries: Mapping[str, TensorEntry],
    *,
    rope_position_dtype: torch.dtype,
    ops: Ops = REFERENCE,
) -> tuple[CausalLM, dict[str, TensorEntry]]:
    """A model without memory for a checkpoint's config, and the stored tensor of each of its parameters.

    A classifier's model comes without its head, see `model.checkpoint.classifier`.

    Raises:
        CheckpointError: a tensor is missing, has no place, or has the wrong shape or dtype.
    """
    family = family_class(config)
    kept = {name: entry for name, entry in entries.items() if not re.fullmatch(family.ignored_tensors, name)}
    if is_classifier(config):
        config = without_lm_head(config)
        kept = {name: entry for name, entry in kept.items() if name not in (SCORE, family.head_name)}
    num_layers = config.get("num_hidden_layers", config.get("n_layers"))
    if isinstance(num_layers, int) and num_layers > len(kept):  # building them would take for ever
        raise CheckpointError(
            f"config.json asks for {num_layers} layers but {folder} holds only {len(kept)} tensors: config.json and "
            "weights do not belong together"
        )
    with torch.device("meta"):
        model: CausalLM = family.from_json(
            _with_stored_vocabulary(config, family, kept), rope_position_dtype=rope_position_dtype, ops=ops
        )
    wanted = dict(model.named_parameters())  # a tied head is listed once, under the embedding's name
    head = kept.get(family.head_name)
    if head is not None and family.head_name not in wanted:
        _check_tied(head, kept.get(family.embedding_name))
        del kept[family.head_name]
    _check_names(folder, wanted, kept)
    return model, kept


def _with_stored_vocabulary(
    config: Mapping[str, Any], family: type[CausalLM], entries: Mapping[str, TensorEntry]
) -> Mapping[str, Any]:
    entry = entries.get(family.embedding_name)
    if entry is None or len(entry.shape) != 2:
        return config  # the check of names and shapes says what is wrong
    return {**config, "vocab_size": entry.shape[0]}


def _check_names(folder: Path, wanted: Mapping[str, Tensor], entries: Mapping[str, TensorEntry]) -> None:
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise CheckpointError(f"{folder} lacks the tensor {_some(missing)}: fetch the checkpoint again")
    extra = [name for name in entries if name not in wanted]
    if extra:
        raise CheckpointError(
            f"{entries[extra[0]].file} holds {_some(extra)}, which has no place in this model: config.json and "
            "weights do not belong together"
        )
    for name, parameter in wanted.items():
        entry = entries[name]
        if entry.shape != tuple(parameter.shape):
            raise CheckpointError(
                f"{entry.file} holds {name} with shape {list(entry.shape)} where config.json asks for "
                f"{list(parameter.shape)}: config.json and weights do not belong together"
            )
        if entry.dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{entry.file} holds {name} as {entry.dtype}: only {', '.join(FLOAT_DTYPES)} are supported"
            )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _check_tied(head: TensorEntry, embedding: TensorEntry | None) -> None:
    """A file may hold a tied head twice; then both must be the same."""
    if embedding is not None and not torch.equal(_read(head), _read(embedding)):
        raise CheckpointError(
            f"{head.file} holds {head.name}, which differs from {embedding.name} though config.json ties them: set "
            "tie_word_embeddings to false"
        )


def _read(entry: TensorEntry) -> Tensor:
    with open_tensors(entry.file) as stored:
        return stored(entry.name)[:]


@torch.no_grad()
def _copy_tensors(parameters: Mapping[str, Tensor], entries: Mapping[str, TensorEntry]) -> None:
    ordered = sorted(entries.values(), key=lambda entry: entry.file)
    for path, group in itertools.groupby(ordered, key=lambda entry: entry.file):
        with open_tensors(path) as stored:
            for entry in group:
                parameter, source = parameters[entry.name], stored(entry.name)
                rows = max(1, COPY_BYTES * len(parameter) // parameter.nbytes)
                for start in range(0, len(parameter), rows):
                    part = parameter[start : start + rows].copy_(source[start : start + rows])
                    if not part.isfinite().all():
                        raise CheckpointError(
                            f"{path} holds {entry.name} with numbers that are not finite in {part.dtype}: fetch it "
                            "again, or load it in float32"
                        )

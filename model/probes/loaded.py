"""A model without its engine, loaded as `open_engine` loads it."""

from __future__ import annotations

from model.checkpoint.config_json import read_json
from model.checkpoint.loaded import LoadedModel, load_checkpoint
from model.checkpoint.source import resolve
from model.families.registry import family_class
from model.open_engine import choose_device, choose_dtype

__all__ = ["LoadedModel", "load", "read_family"]


def load(checkpoint: str, *, revision: str | None = None, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load a checkpoint; the arguments are `open_engine`'s.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        InvalidRequest: an option's value breaks its rule.
    """
    torch_device = choose_device(device)
    return load_checkpoint(checkpoint, revision=revision, device=torch_device, dtype=choose_dtype(dtype, torch_device))


def read_family(checkpoint: str, *, revision: str | None = None) -> str:
    """The family of a checkpoint (`persimmon`, `mpt`, `llama`) from its config.json, before any weight is read.

    Raises:
        CheckpointError: there is no such checkpoint, or its family is not supported.
    """
    config = read_json(resolve(checkpoint, revision=revision).folder / "config.json")
    family_class(config)
    return str(config["model_type"])

"""A model without its engine, loaded as `open_engine` loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.checkpoint.card import read_card
from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.fingerprint import file_sha256, weights_sha256
from model.checkpoint.load import load_model
from model.checkpoint.source import resolve
from model.checkpoint.special_tokens import special_tokens
from model.families.registry import CausalLM, family_class
from model.interface import Tokenizer
from model.open_engine import choose_device, choose_dtype
from model.tokenizer import load_tokenizer, tokenizer_file


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """Weights on a device, their tokenizer, and what identifies them; the names are those of `EngineInfo`."""

    model: CausalLM
    tokenizer: Tokenizer
    model_name: str
    source: str
    revision: str | None
    family: str
    num_parameters: int
    weights_sha256: str
    tokenizer_sha256: str
    device: str
    dtype: str
    notice: str | None
    licence: str | None


def load(checkpoint: str, *, revision: str | None = None, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load a checkpoint; the arguments are `open_engine`'s.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        InvalidRequest: an option's value breaks its rule.
    """
    torch_device = choose_device(device)
    torch_dtype = choose_dtype(dtype, torch_device)
    source = resolve(checkpoint, revision=revision)
    folder = source.folder
    config = read_json(folder / "config.json")
    tokenizer = load_tokenizer(folder, special_tokens(folder, config))
    card = read_card(folder, name=checkpoint)
    model = load_model(folder, device=torch_device, dtype=torch_dtype)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{tokenizer_file(folder)} has {tokenizer.vocab_size} tokens but the weights have only "
            f"{model.config.vocab_size}: tokenizer and weights do not belong together"
        )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        model_name=Path(checkpoint).name,
        source=source.name,
        revision=source.revision,
        family=config["model_type"],
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_sha256=weights_sha256(folder),
        tokenizer_sha256=file_sha256(tokenizer_file(folder)),
        device=str(torch_device),
        dtype=str(torch_dtype).removeprefix("torch."),
        notice=card.notice,
        licence=card.licence,
    )


def read_family(checkpoint: str, *, revision: str | None = None) -> str:
    """The family of a checkpoint (`persimmon`, `mpt`, `llama`) from its config.json, before any weight is read.

    Raises:
        CheckpointError: there is no such checkpoint, or its family is not supported.
    """
    config = read_json(resolve(checkpoint, revision=revision).folder / "config.json")
    family_class(config)
    return str(config["model_type"])

"""A checkpoint's model on a device, its tokenizer, and what identifies them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from model.checkpoint.card import read_card
from model.checkpoint.classifier import pad_token_id, read_own_head
from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.fingerprint import file_sha256, weights_sha256
from model.checkpoint.head import HeadWeights
from model.checkpoint.load import load_model
from model.checkpoint.source import resolve
from model.checkpoint.special_tokens import special_tokens
from model.checkpoint.weight_files import read_entries
from model.families.registry import CausalLM
from model.interface import Tokenizer
from model.layers.ops import REFERENCE, Ops
from model.tokenizer import SpecialTokens, load_tokenizer, tokenizer_file


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """Weights on a device, their tokenizer, and what identifies them; the names are those of `EngineInfo`.

    `head`: of a classifier, which has no language-model head; `pad_token_id`: the id that does not count as the last
    token of what is classified; `folder`: where the files are.
    """

    model: CausalLM
    head: HeadWeights | None
    pad_token_id: int | None
    folder: Path
    tokenizer: Tokenizer
    special: SpecialTokens
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


def load_checkpoint(
    checkpoint: str,
    *,
    revision: str | None,
    device: torch.device,
    dtype: torch.dtype,
    rope_position_dtype: torch.dtype = torch.float32,
    ops: Ops = REFERENCE,
) -> LoadedModel:
    """Load a folder or Hub id; `ops` is what its layers compute with.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    source = resolve(checkpoint, revision=revision)
    folder = source.folder
    config = read_json(folder / "config.json")
    special = special_tokens(folder, config)
    tokenizer = load_tokenizer(folder, special)
    card = read_card(folder, name=checkpoint)
    model = load_model(folder, device=device, dtype=dtype, rope_position_dtype=rope_position_dtype, ops=ops)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{tokenizer_file(folder)} has {tokenizer.vocab_size} tokens but the weights have only "
            f"{model.config.vocab_size}: tokenizer and weights do not belong together"
        )
    name = Path(checkpoint).name
    head = read_own_head(config, read_entries(folder), folder=folder, name=name, hidden_size=model.config.hidden_size)
    return LoadedModel(
        model=model,
        head=head,
        pad_token_id=pad_token_id(config),
        folder=folder,
        tokenizer=tokenizer,
        special=special,
        model_name=name,
        source=source.name,
        revision=source.revision,
        family=config["model_type"],
        num_parameters=sum(parameter.numel() for parameter in model.parameters())
        + (0 if head is None else head.weight.size),
        weights_sha256=weights_sha256(folder),
        tokenizer_sha256=file_sha256(tokenizer_file(folder)),
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        notice=card.notice,
        licence=card.licence,
    )

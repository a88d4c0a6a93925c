"""Random weights made on the device, tensor by tensor: the same for the same name, shape and device, whoever asks.

An 8-billion-parameter model is there in seconds, without a file. Hugging Face's model of the same shape is filled by
the same function, so both sides of a comparison have the same weights in different processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint.loaded import LoadedModel
from model.families.registry import family_class
from model.interface import Tokenizer
from model.layers.joined import give_memory
from model.layers.ops import REFERENCE, Ops
from model.speed.shapes import shape_of
from model.tokenizer import SpecialTokens, load_tokenizer

BUNDLED = Path(__file__).resolve().parents[1] / "demo" / "persimmon-demo"
NO_SPECIAL_TOKENS = SpecialTokens(bos_token_id=None, eos_token_ids=(), prompts_begin_with_bos=False)


class FoldedTokenizer:
    """The bundled tokenizer for a vocabulary of any size: what tokens mean does not matter, what decoding them costs
    does. Id i stands for the bytes of token i modulo the bundled vocabulary."""

    def __init__(self, vocab_size: int) -> None:
        self._bundled: Tokenizer = load_tokenizer(BUNDLED, NO_SPECIAL_TOKENS)
        self.vocab_size = vocab_size
        self.bos_token_id: int | None = None
        self.eos_token_ids: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        return [token % self.vocab_size for token in self._bundled.encode(text)]

    def encode_prompt(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._bundled.decode([token % self._bundled.vocab_size for token in token_ids])

    def token_bytes(self, token_id: int) -> bytes:
        return self._bundled.token_bytes(token_id % self._bundled.vocab_size)


@torch.no_grad()
def fill(parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Give every parameter its values, whatever order its memory is in.

    Matrices are normal with a standard deviation of one over the square root of their inputs, so that states neither
    die nor grow from layer to layer; embeddings that are no head are standard normal; norms are 1 and their biases 0;
    other biases are normal with 0.1.
    """
    for name, parameter in parameters:
        seed = int.from_bytes(hashlib.sha256(f"{name} {tuple(parameter.shape)}".encode()).digest()[:7], "big")
        generator = torch.Generator(parameter.device).manual_seed(seed)
        if "norm" in name:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        is_table = "embed_tokens" in name
        scale = 0.1 if parameter.dim() == 1 else 1.0 if is_table else parameter.shape[1] ** -0.5
        # In the order of rows, which the memory of a matrix kept by columns is not.
        values = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        parameter.copy_(values.normal_(std=scale, generator=generator))


def load_random(
    checkpoint: str,
    *,
    revision: str | None,
    device: torch.device,
    dtype: torch.dtype,
    rope_position_dtype: torch.dtype = torch.float32,
    ops: Ops = REFERENCE,
) -> LoadedModel:
    """In place of `load_checkpoint`: a model of `shapes.SHAPES`, such as `full/persimmon-8b`.

    Raises:
        InvalidRequest: there is no such shape.
    """
    name, config = shape_of(checkpoint)
    with torch.device("meta"):
        model = family_class(config).from_json(config, rope_position_dtype=rope_position_dtype, ops=ops)
    give_memory(model.to(dtype).eval(), device)
    fill(model.named_parameters())
    identity = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return LoadedModel(
        model=model,
        head=None,
        pad_token_id=None,
        folder=BUNDLED.parent / "none",  # no heads lie here
        tokenizer=FoldedTokenizer(model.config.vocab_size),
        special=NO_SPECIAL_TOKENS,
        model_name=name,
        source=f"random weights, {checkpoint}",
        revision=revision,
        family=config["model_type"],
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_sha256=identity,
        tokenizer_sha256=identity,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        notice="The weights are random: what it writes means nothing.",
        licence=None,
    )


def fingerprint(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """A hash over every parameter's name, sum and first numbers: two processes with the same one have the same weights,
    but for chance."""
    digest = hashlib.sha256()
    for name, parameter in sorted(parameters, key=lambda each: each[0]):
        first = parameter[0].flatten()[:8].double().tolist()
        last = parameter[-1].flatten()[-8:].double().tolist()
        digest.update(f"{name} {tuple(parameter.shape)} {first} {last}\n".encode())
    return digest.hexdigest()[:16]

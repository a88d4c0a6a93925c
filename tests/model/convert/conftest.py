"""Synthetic releases: Adept's layout at small size, saved by torch.save as Megatron saves it."""

from __future__ import annotations

import argparse
import enum
import random
import shutil
import sys
import tarfile
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from torch import Tensor

LAYERS, HIDDEN, HEADS, FFN = 2, 48, 4, 96
HEAD_DIM = HIDDEN // HEADS
BASE = 25_000
NAME = "8b_test_model_release"


class ModelType(enum.Enum):
    """As megatron.model.enums.ModelType; it is pickled under that name."""

    encoder_or_decoder = 1


ModelType.__module__ = "megatron.model.enums"


class Sampler:
    """An object with state, under a name in megatron."""

    def __init__(self) -> None:
        self.state = {"consumed": 3}


Sampler.__module__ = "megatron.data"


@contextmanager
def megatron_importable() -> Iterator[None]:
    """Saving needs the modules; reading must do without them."""
    modules = {name: types.ModuleType(name) for name in ("megatron", "megatron.model", "megatron.model.enums")}
    modules["megatron.data"] = types.ModuleType("megatron.data")
    modules["megatron.model.enums"].ModelType = ModelType  # type: ignore[attr-defined]
    modules["megatron.data"].Sampler = Sampler  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class SyntheticRelease:
    """A release's content, to be changed, and ways to write it."""

    def __init__(self, tokenizer: bytes, *, ranks: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        self.tokenizer = tokenizer
        pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer).get_piece_size()
        self.vocab_size = -(-pieces // 128) * 128
        self.num_ranks, self.tracker, self.iteration = ranks, "1", "iter_0000001"
        self.weights = self._random_weights(dtype, seed)  # as on one rank
        self.args: dict[str, Any] = {
            "num_layers": LAYERS,
            "hidden_size": HIDDEN,
            "ffn_hidden_size": FFN,
            "num_attention_heads": HEADS,
            "kv_channels": HEAD_DIM,
            "seq_length": 64,
            "max_position_embeddings": 64,
            "padded_vocab_size": self.vocab_size,
            "layernorm_epsilon": 1e-5,
            "pos_emb": "rotary",
            "rotary_pct": 0.5,
            "rotary_emb_base": BASE,
            "qk_layernorm": "weights_per_layer",
            "untie_embeddings": True,
            "sq_relu": True,
            "bias_gelu_fusion": False,
            "num_experts": None,
            "tensor_model_parallel_size": ranks,
            "pipeline_model_parallel_size": 1,
            "params_dtype": dtype,
            "model_type": ModelType.encoder_or_decoder,
            "vocab_file": "/somewhere/else",
        }
        self.states = [self._state(rank) for rank in range(ranks)]

    def _random_weights(self, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator) * (0.3 if len(shape) == 1 else 0.2)

        weights = {"language_model.embedding.word_embeddings.weight": normal(self.vocab_size, HIDDEN)}
        for layer in range(LAYERS):
            at = f"language_model.encoder.layers.{layer}."
            for norm, size in (
                ("input_layernorm", HIDDEN),
                ("post_attention_layernorm", HIDDEN),
                ("self_attention.q_layernorm", HEAD_DIM),
                ("self_attention.k_layernorm", HEAD_DIM),
            ):
                weights |= {f"{at}{norm}.weight": 1 + normal(size), f"{at}{norm}.bias": normal(size)}
            for linear, rows, columns in (
                ("self_attention.query_key_value", 3 * HIDDEN, HIDDEN),
                ("self_attention.dense", HIDDEN, HIDDEN),
                ("mlp.dense_h_to_4h", FFN, HIDDEN),
                ("mlp.dense_4h_to_h", HIDDEN, FFN),
            ):
                weights |= {f"{at}{linear}.weight": normal(rows, columns), f"{at}{linear}.bias": normal(rows)}
            dim = HEAD_DIM // 2
            weights[f"{at}self_attention.rotary_emb.inv_freq"] = 1.0 / (BASE ** (torch.arange(0, dim, 2).float() / dim))
        final = "language_model.encoder.final_layernorm."
        weights |= {f"{final}weight": 1 + normal(HIDDEN), f"{final}bias": normal(HIDDEN)}
        weights["word_embeddings_for_head.weight"] = normal(self.vocab_size, HIDDEN)
        return {name: tensor.to(dtype) for name, tensor in weights.items()}

    def _state(self, rank: int) -> dict[str, Any]:
        parts = {name: rank_part(name, tensor, rank, self.num_ranks) for name, tensor in self.weights.items()}
        encoder = "language_model.encoder."
        embedding = torch.nn.Parameter(parts["language_model.embedding.word_embeddings.weight"])
        embedding.tensor_model_parallel = True  # type: ignore[attr-defined]  # as megatron/mpu/layers.py marks it
        head = OrderedDict(weight=parts["word_embeddings_for_head.weight"])
        head._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]  # as Module.state_dict does
        return {
            "args": argparse.Namespace(**self.args),
            "checkpoint_version": 3.0,
            "iteration": 1,
            "model": {
                "language_model": {
                    "embedding": {"word_embeddings": OrderedDict(weight=embedding)},
                    "encoder": OrderedDict(
                        (name.removeprefix(encoder), part) for name, part in parts.items() if name.startswith(encoder)
                    ),
                },
                "word_embeddings_for_head": head,
            },
            "sampler": Sampler(),
            "rng_state": [
                {
                    "random_rng_state": random.getstate(),
                    "np_rng_state": np.random.get_state(),
                    "torch_rng_state": torch.get_rng_state(),
                    "rng_tracker_states": {},
                }
            ],
        }

    def rank_file(self, folder: Path, rank: int = 0) -> Path:
        return folder / self.iteration / f"mp_rank_{rank:02d}" / "model_optim_rng.pt"

    def write(self, folder: Path) -> Path:
        """As the tar unpacks."""
        with megatron_importable():
            for rank, state in enumerate(self.states):
                self.rank_file(folder, rank).parent.mkdir(parents=True)
                torch.save(state, self.rank_file(folder, rank))
        (folder / "latest_checkpointed_iteration.txt").write_text(self.tracker)
        (folder / "adept_vocab.model").write_bytes(self.tokenizer)
        (folder / "adept_vocab.vocab").write_text("unused\n")
        return folder

    def write_tar(self, path: Path) -> Path:
        folder = self.write(path.with_suffix(".unpacked"))
        with tarfile.open(path, "w") as archive:
            archive.add(folder, arcname=NAME)
        shutil.rmtree(folder)
        return path


def rank_part(name: str, tensor: Tensor, rank: int, ranks: int) -> Tensor:
    """What megatron/mpu/layers.py keeps of a tensor on one rank."""
    if name.endswith(("self_attention.dense.weight", "dense_4h_to_h.weight")):  # RowParallelLinear
        return tensor.chunk(ranks, dim=1)[rank].contiguous()
    if "query_key_value" in name or "dense_h_to_4h" in name or "word_embeddings" in name:
        return tensor.chunk(ranks, dim=0)[rank].clone()  # ColumnParallelLinear, VocabParallelEmbedding
    return tensor


@pytest.fixture
def make_release(sentencepiece_model: bytes) -> Callable[..., SyntheticRelease]:
    def make(**options: Any) -> SyntheticRelease:
        return SyntheticRelease(sentencepiece_model, **options)

    return make

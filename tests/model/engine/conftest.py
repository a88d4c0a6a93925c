"""A small random checkpoint of every family, and engines with blocks so small that their borders are everywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from transformers import PreTrainedModel

from model.engine.engine import LocalEngine
from model.interface import EngineStats
from model.open_engine import open_engine
from model.parity.hugging_face import HuggingFace
from model.parity.random_checkpoint import save_random_llama, save_random_mpt, save_random_persimmon

CONTEXT_LENGTH = 128
BLOCK_SIZE = 4
CHECKPOINTS: dict[str, Callable[..., PreTrainedModel]] = {
    "persimmon": lambda folder, **sizes: save_random_persimmon(
        folder, num_hidden_layers=2, max_position_embeddings=CONTEXT_LENGTH, **sizes
    ),
    "mpt": lambda folder, **sizes: save_random_mpt(folder, n_layers=2, max_seq_len=CONTEXT_LENGTH, **sizes),
    "llama": lambda folder, **sizes: save_random_llama(
        folder, num_hidden_layers=2, num_key_value_heads=2, max_position_embeddings=CONTEXT_LENGTH, **sizes
    ),
    # Its keys depend on the prompt's length, so prefixes are not cached.
    "dynamic rope": lambda folder, **sizes: save_random_llama(
        folder,
        num_hidden_layers=2,
        max_position_embeddings=CONTEXT_LENGTH // 4,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
        **sizes,
    ),
}


@pytest.fixture(scope="session", params=CHECKPOINTS)
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentencepiece_model: bytes
) -> Path:
    """Each of the random checkpoints, with a tokenizer."""
    folder = tmp_path_factory.mktemp("random-checkpoint")
    vocab_size = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model).get_piece_size()
    CHECKPOINTS[request.param](folder, vocab_size=vocab_size)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model)
    return folder


@pytest.fixture(scope="session")
def caches_prefixes(checkpoint: Path) -> bool:
    return '"dynamic"' not in (checkpoint / "config.json").read_text()


@pytest.fixture(scope="session")
def plain(checkpoint: Path) -> Iterator[LocalEngine]:
    """One request at a time, whole and from the beginning: what every other way of running must give."""
    engine = open_engine(
        str(checkpoint), device="cpu", block_size=BLOCK_SIZE, max_num_requests=1, max_num_prompt_tokens=CONTEXT_LENGTH
    )
    engine._core.scheduler.pool.caches_prefixes = False
    yield engine
    engine.close()


@pytest.fixture
def open_small(checkpoint: Path) -> Iterator[Callable[..., LocalEngine]]:
    """Opens the checkpoint with other options, and closes it after the test."""
    engines: list[LocalEngine] = []

    def small(**options: Any) -> LocalEngine:
        defaults = {"block_size": BLOCK_SIZE, "max_num_requests": 8}
        engines.append(open_engine(str(checkpoint), device="cpu", **(defaults | options)))
        return engines[-1]

    yield small
    for engine in engines:
        engine.close()


@pytest.fixture
def idle_stats() -> Callable[[LocalEngine], EngineStats]:
    """An engine's counts after all it was asked for, when nothing runs and every block must be back. They come from its
    own thread: `stats()` may be a step behind."""

    def ask(engine: LocalEngine) -> EngineStats:
        found: Future[EngineStats] = Future()
        engine._commands.put(lambda: found.set_result(engine._core.stats(fresh=True)))
        stats = found.result(timeout=60)
        assert (stats.num_running, stats.num_waiting) == (0, 0)
        assert stats.num_free_blocks == stats.num_usable_blocks
        return stats

    return ask


@pytest.fixture
def hugging_face(checkpoint: Path) -> HuggingFace:
    """The checkpoint in transformers, which has seen no text yet: dynamic rope remembers."""
    return HuggingFace(checkpoint, dtype=torch.float32)


@pytest.fixture(scope="session")
def tokens(plain: LocalEngine) -> Callable[..., list[int]]:
    """Random token ids: the same for the same length and seed."""

    def draw(count: int, seed: int = 0) -> list[int]:
        generator = random.Random(f"{count} {seed}")
        return [generator.randrange(3, plain.info.vocab_size) for _ in range(count)]

    return draw

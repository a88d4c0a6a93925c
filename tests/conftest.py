"""Shared fixtures: switches before any import that looks at them, and a random checkpoint with a tokenizer."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# Triton looks when it is imported, which transformers does: tests/kernels/gpu runs kernels in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "1")

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece

from model.engine.engine import LocalEngine
from model.open_engine import open_engine
from model.parity.random_checkpoint import save_random_persimmon

TRAINING_TEXT = [
    "human: What is the capital of France?",
    "adept: The capital of France is Paris.",
    "The quick brown fox jumps over the lazy dog; 0123456789 times, they say!",
    "def add(a, b):  return a + b",
    "Été naïve façade, größer, mañana.",
    " ".join(map(chr, range(33, 127))),  # the exporter needs every character it has to spell
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: of processes side by side, none has one left when the others are done."""
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in with_slow)


@pytest.fixture(scope="session")
def sentencepiece_model() -> bytes:
    """A unigram model with byte fallback, set up as Adept's: identity normalisation, blanks kept."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXT * 20),
        model_writer=stream,
        vocab_size=460,
        hard_vocab_limit=False,
        model_type="unigram",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["|ENDOFTEXT|"],
        minloglevel=2,
    )
    return stream.getvalue()


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory, sentencepiece_model: bytes) -> Path:
    """A random Persimmon of three layers whose answers go on until told to stop (its end token is never likely)."""
    folder = tmp_path_factory.mktemp("random-persimmon")
    size = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model).get_piece_size()
    save_random_persimmon(folder, vocab_size=size, max_position_embeddings=128)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model)
    return folder


@pytest.fixture(scope="session")
def engine(random_checkpoint: Path) -> Iterator[LocalEngine]:
    """The random checkpoint on the CPU, with room for every request of a test."""
    engine = open_engine(str(random_checkpoint), device="cpu", max_num_requests=16, block_size=4)
    yield engine
    engine.close()

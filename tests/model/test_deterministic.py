"""The same bits alone, among 8 and among 64, and however a prompt is cut, with all kernels in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from numpy.typing import NDArray

pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")

import triton
from interpreter_products import add_in_a_fixed_order

from kernels.gpu import gemv, token_logprobs
from model.engine.engine import LocalEngine
from model.interface import InvalidRequest, SamplingParams, ScoreRequest
from model.open_engine import open_engine
from model.parity.random_checkpoint import save_random_llama, save_random_mpt, save_random_persimmon

pytestmark = pytest.mark.skipif(
    not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is set to something other than 1"
)
SAVE: dict[str, Callable[..., Any]] = {
    "persimmon": lambda folder, size: save_random_persimmon(folder, vocab_size=size, num_hidden_layers=1),
    "mpt": lambda folder, size: save_random_mpt(folder, vocab_size=size, n_layers=1),
    "llama": lambda folder, size: save_random_llama(
        folder, vocab_size=size, num_hidden_layers=1, num_key_value_heads=2
    ),
    "dynamic": lambda folder, size: save_random_llama(
        folder, vocab_size=size, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    ),
}


@pytest.fixture(autouse=True)
def products_as_on_a_tensor_core(monkeypatch: pytest.MonkeyPatch) -> None:
    add_in_a_fixed_order(monkeypatch)


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes milliseconds here."""
    monkeypatch.setattr(gemv, "MOST_SPLITS", 2)
    monkeypatch.setattr(gemv, "BLOCK_N", 128)
    monkeypatch.setattr(token_logprobs, "VOCAB_TILE", 512)


@pytest.fixture
def open_random(tmp_path: Path, sentencepiece_model: bytes) -> Iterator[Callable[..., LocalEngine]]:
    """Opens a random checkpoint of a family, deterministic, and closes it after the test."""
    engines: list[LocalEngine] = []

    def opened(family: str, **options: Any) -> LocalEngine:
        size = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model).get_piece_size()
        SAVE[family](tmp_path, size)
        (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)
        options = {"kernels": "triton", "deterministic": True, "block_size": 4} | options
        engines.append(open_engine(str(tmp_path), device="cpu", **options))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


def prompts(count: int) -> list[list[int]]:
    """Of 1 to 3 tokens; every eighth of 12."""
    generator = np.random.default_rng(0)
    return [generator.integers(5, 200, 12 if i % 8 == 5 else 1 + i % 3).tolist() for i in range(count)]


def same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.tobytes() == other.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["persimmon", "mpt", "llama"])
def test_the_same_bits_alone_among_8_and_among_64(open_random: Callable[..., LocalEngine], family: str) -> None:
    engine = open_random(family)
    assert engine.info.kernels == "Triton kernels with fixed tiles"
    assert engine.info.attention_backend == "Triton paged attention with fixed tiles"
    asked = prompts(64)
    among_64 = engine.hidden_states(asked)
    among_8 = engine.hidden_states(asked[:8])
    for index in (0, 5, 7):
        [alone] = engine.hidden_states(asked[index : index + 1])
        assert same(alone, among_8[index])
        assert same(alone, among_64[index])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_answers_and_scores_are_the_same_bits(open_random: Callable[..., LocalEngine], dtype: str) -> None:
    """Log-probabilities of an answer and of a continuation, drawn and greedy."""
    engine = open_random("persimmon", dtype=dtype)
    asked = prompts(8)
    params = [SamplingParams(max_tokens=2, seed=i, temperature=i % 2, logprobs=2, ignore_eos=True) for i in range(8)]
    together = engine.generate(asked, params)
    alone = [engine.generate([asked[i]], params[i])[0] for i in (3, 5, 6)]
    for one, other in zip(alone, (together[i] for i in (3, 5, 6)), strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == other.logprobs
    requests = [ScoreRequest(context_token_ids=tuple(one), continuation_token_ids=(7, 9, 11)) for one in asked]
    scores = engine.score(requests)
    assert engine.score(requests[5:6])[0] == scores[5]


@pytest.mark.slow
def test_the_same_bits_however_a_prompt_is_cut(open_random: Callable[..., LocalEngine]) -> None:
    prompt = list(range(5, 35))
    whole = open_random("llama", dtype="float16").hidden_states([prompt])[0]
    engine = open_random("llama", dtype="float16", max_num_batched_tokens=7, max_num_requests=2)
    assert same(engine.hidden_states([prompt])[0], whole)
    assert same(engine.hidden_states([prompt])[0], whole)  # what is cached is not computed again


def test_what_is_refused(open_random: Callable[..., LocalEngine]) -> None:
    with pytest.raises(InvalidRequest, match=r"deterministic is not allowed for .*: its rope type is dynamic"):
        open_random("dynamic")
    with pytest.raises(InvalidRequest, match="deterministic is not allowed here: the kernels need an NVIDIA GPU"):
        open_random("persimmon", kernels="auto")
    with pytest.raises(InvalidRequest, match="attention_backend='sdpa' is not allowed with deterministic"):
        open_random("persimmon", attention_backend="sdpa")

"""Memory: a bounded peak over a large vocabulary, and nothing more after many requests than after few."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from model.interface import SamplingParams, ScoreRequest
from model.open_engine import open_engine
from model.parity.random_checkpoint import save_random_persimmon

ROOT = Path(__file__).parents[3]
VOCAB_SIZE = 262_144  # Persimmon's
NUM_TOKENS = 2048

PEAKS = """
import ctypes, json, random, sys
from model.interface import SamplingParams, ScoreRequest
from model.open_engine import open_engine

def kib(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

folder, num_tokens, vocab_size = sys.argv[1], *map(int, sys.argv[2:])
engine = open_engine(folder, device="cpu", max_num_requests=1)
sum(float(weight.sum()) for weight in engine._core.runner.model.parameters())  # reads them from the file
peaks = {}

def measure(name, ask):
    ask(12)  # loads the libraries it needs
    ctypes.CDLL(None).malloc_trim(0)  # what was free already would not count as taken
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of the resident set begins anew (man 5 proc)
    before = kib("VmRSS")
    ask(num_tokens)
    peaks[name] = (kib("VmHWM") - before) * 1024

def draw(count):
    return [random.randrange(vocab_size) for _ in range(count)]

def score(count, top_logprobs):
    tokens = draw(count)
    (result,) = engine.score([ScoreRequest(context_token_ids=(1,), continuation_token_ids=tuple(tokens[1:]),
                                           top_logprobs=top_logprobs)])
    assert len(result.logprobs) == count - 1

def echo(count):
    (result,) = engine.generate([draw(count - 1)], SamplingParams(max_tokens=1, prompt_logprobs=1, logprobs=1))
    assert len(result.prompt_logprobs) == count - 2

measure("loglikelihood", lambda count: score(count, 0))
measure("loglikelihood with 20 top log-probabilities", lambda count: score(count, 20))
measure("prompt log-probabilities", echo)
engine.close()
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc/self")
def test_scoring_a_whole_context_over_a_large_vocabulary(tmp_path: Path, sentencepiece_model: bytes) -> None:
    """The logits alone would be 2 GiB; through the whole engine it stays below 64 MB over what is loaded."""
    save_random_persimmon(
        tmp_path,
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=NUM_TOKENS,
    )
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model)
    out = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path), str(NUM_TOKENS), str(VOCAB_SIZE)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    peaks: dict[str, int] = json.loads(out.splitlines()[-1])
    print({name: f"{peak / 1e6:.1f} MB" for name, peak in peaks.items()})  # noqa: T201
    assert len(peaks) == 3
    assert all(0 < peak < 64e6 for peak in peaks.values()), peaks


@pytest.mark.slow
def test_nothing_grows_with_the_number_of_requests(random_checkpoint: Path) -> None:
    """The prefix cache stays full, and all that is kept of a past request are its times."""
    engine = open_engine(
        str(random_checkpoint), device="cpu", block_size=4, kv_cache_tokens=120, max_num_requests=6, num_draft_tokens=2
    )
    generator = random.Random(0)
    num_requests = 0

    def draw(count: int) -> list[int]:
        return [generator.randrange(3, engine.info.vocab_size) for _ in range(count)]

    def serve() -> int:
        """Answer, fork, score, embed and abort; the bytes Python then holds."""
        nonlocal num_requests
        for turn in range(6):
            params = [SamplingParams(max_tokens=3, seed=turn, logprobs=1)] * 4
            engine.generate([draw(20), draw(9), draw(3)], params[:3])
            for stream in engine.streams(draw(10), params):
                stream.next_chunk(timeout=10)
                stream.abort()
                list(stream)
            context = tuple(draw(10))
            engine.score(
                [ScoreRequest(context_token_ids=context, continuation_token_ids=tuple(draw(3))) for _ in range(4)]
            )
            engine.hidden_states([draw(12)])
            num_requests += 12
        engine.generate([draw(1)], SamplingParams(max_tokens=1))  # after it, what was aborted is gone
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        serve()
        before = serve()
        growth = (serve() - before) / (num_requests / 3)
    finally:
        tracemalloc.stop()
        engine.close()
    core, pool = engine._core, engine._core.scheduler.pool
    assert pool.num_findable > 0.8 * pool.num_usable
    assert len(pool._block_of) == len(pool._key_of) <= pool.num_usable == pool.num_free
    assert not core._requests
    assert not core._detokenizers
    assert not core.scheduler.has_work
    assert growth < 400, f"{growth:.0f} bytes a request"

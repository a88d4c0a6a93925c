"""lm-eval's own client over the API gives, item by item, what the engine gives in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

from evals.endpoint_lm import EndpointLM
from evals.engine_lm import EngineLM
from model.interface import Engine
from model.open_engine import DEMO_CHECKPOINT, open_engine

pytestmark = pytest.mark.slow

Serve = Callable[..., Any]
QUESTIONS = [
    ("human: What is the capital of France?\n\nadept:", [" Paris", " London", " The capital of France is Paris."]),
    ("human: What is the opposite of hot?\n\nadept:", [" cold", " blue", " The opposite of hot is cold."]),
    ("human: What is 3 plus 4?\n\nadept:", [" 7", " 3 plus 4 is 7.", " 12"]),
    ("The quick brown fox jumps over the lazy", [" dog", " cat", " naïve façade"]),
    ("def add(a, b):\n    return a +", [" b", " a", "\n"]),
    ("Été naïve à", [" é", "é", " mañana…"]),
    ("One two three", [" four", " five six", "teen"]),
    ("A sentence that ends in blanks  ", ["x", "yz", "three words here"]),
    ("x", ["y", " y", "\n\n"]),
    ("Largest planet: ", ["Jupiter", "Mars", "the Sun"]),
    ("Water boils at", [" 100 degrees", " noon", "tention"]),
]
GENERATED = ["human: What is 3 plus 4?\n\nadept:", "human: What is the opposite of hot?\n\nadept:", "Once upon a time"]


@pytest.fixture(scope="module")
def demo() -> Iterator[Engine]:
    engine = open_engine(str(DEMO_CHECKPOINT), device="cpu", kv_cache_tokens=8192)
    yield engine
    engine.close()


def requests_of(kind: str, arguments: list[Any]) -> list[Instance]:
    return [
        Instance(
            request_type=kind, doc={}, arguments=one, idx=0, metadata=("task", place, 1), task_name="task", doc_id=place
        )
        for place, one in enumerate(arguments)
    ]


def assert_same(pairs: list[Any], expected: list[Any], found: list[Any]) -> None:
    """Equal but for the order in which float32 is summed, which depends on what else is in a batch."""
    for pair, (score, greedy), (other, other_greedy) in zip(pairs, expected, found, strict=True):
        assert greedy == other_greedy, pair
        assert other == pytest.approx(score, rel=1e-5, abs=1e-4), pair


def test_likelihoods_and_answers_are_the_same(serve: Serve, demo: Engine) -> None:
    class Kept:
        """The engine, which other tests go on with."""

        def __getattr__(self, name: str) -> Any:
            return getattr(demo, name)

        def close(self) -> None:
            pass

    served = serve(Kept())
    pairs = [(context, answer) for context, answers in QUESTIONS for answer in answers]
    assert len(pairs) >= 30
    local = LocalCompletionsAPI(
        model=demo.info.model_name,
        base_url=f"{served.address}/v1/completions",
        tokenizer=str(Path(DEMO_CHECKPOINT)),
        tokenizer_backend="huggingface",
        max_length=demo.info.context_length,
        num_concurrent=4,
        batch_size=1,
    )
    inside = EngineLM(demo, progress=False)
    asked = requests_of("loglikelihood", pairs)
    expected = inside.loglikelihood(asked)
    assert_same(pairs, expected, local.loglikelihood(asked, disable_tqdm=True))
    options = {"until": ["\n\nhuman:", "\n\n"], "max_gen_toks": 24, "temperature": 0.0, "do_sample": False}
    texts = requests_of("generate_until", [(prompt, dict(options)) for prompt in GENERATED])
    assert local.generate_until(texts, disable_tqdm=True) == inside.generate_until(texts)
    assert served.service.num_admitted == 0


def test_our_own_endpoint_client_agrees_too(serve: Serve, demo: Engine) -> None:
    served = serve(open_engine(str(DEMO_CHECKPOINT), device="cpu", kv_cache_tokens=2048))
    pairs = [(context, answer) for context, answers in QUESTIONS[:5] for answer in answers]
    asked = requests_of("loglikelihood", pairs)
    endpoint = EndpointLM(f"{served.address}/v1", demo.info.model_name, progress=False)
    expected = EngineLM(demo, progress=False).loglikelihood(asked)
    assert_same(pairs, expected, endpoint.loglikelihood(asked))

"""The adapter against lm-eval's own Hugging Face back-end, item by item, on the bundled checkpoint in float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evals.data import DEMO_FOLDER
from evals.engine_lm import EngineLM
from evals.run import load_tasks
from model.interface import Engine, SamplingParams
from model.open_engine import open_engine

TOLERANCE = 1e-3  # natural-log probability of a whole continuation
NUM_ITEMS = 200
NUM_GENERATED = 50
PROMPTS = ("human: Tell me a story.\n\nadept:", "The lamp", "Question: What is it?\nAnswer:")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(bundled_checkpoint: Path) -> Iterator[Engine]:
    engine = open_engine(str(bundled_checkpoint), device="cpu", dtype="float32")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def hugging_face(bundled_checkpoint: Path) -> Any:
    return HFLM(pretrained=str(bundled_checkpoint), device="cpu", dtype="float32", batch_size=16, add_bos_token=False)


def requests(task: str, data: Path, limit: int) -> list[Instance]:
    _, (loaded,) = load_tasks([task], data=str(data), seed=0)
    loaded.build_all_requests(limit=limit)
    return list(loaded.instances)


def assert_same_scores(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> None:
    differences = [abs(a[0] - b[0]) for a, b in zip(ours, theirs, strict=True)]
    assert max(differences) <= TOLERANCE, f"item {differences.index(max(differences))}: {max(differences):.2e}"
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_loglikelihoods_of_real_items(engine: Engine, hugging_face: HFLM, real_items: Path) -> None:
    asked = requests("likelihood_arc_easy", real_items, NUM_ITEMS)
    assert len({request.doc_id for request in asked}) == NUM_ITEMS
    lm = EngineLM(engine, progress=False)
    assert_same_scores(lm.loglikelihood(asked), hugging_face.loglikelihood(asked, disable_tqdm=True))
    assert not any(fact.failed or fact.merged for fact in lm.facts)


def test_greedy_continuations_are_known_as_such(engine: Engine, hugging_face: HFLM) -> None:
    """What either would generate is greedy for both; with another last letter it is not."""
    asked = []
    for prompt in PROMPTS:
        (answer,) = engine.generate([prompt], SamplingParams(max_tokens=6, temperature=0.0))
        for text in (answer.text, answer.text + "@"):
            asked.append(Instance(request_type="loglikelihood", doc={}, arguments=(prompt, text), idx=0))
    ours = EngineLM(engine, progress=False).loglikelihood(asked)
    assert_same_scores(ours, hugging_face.loglikelihood(asked, disable_tqdm=True))
    assert {greedy for _, greedy in ours} == {True, False}


def test_odd_requests(engine: Engine, hugging_face: HFLM) -> None:
    """No context, blanks at the boundary, letters outside the vocabulary, and more than the context length."""
    long = "The lamp in the hall is red and the door is green. " * 120
    pairs = [
        ("", "The lamp is red."),
        ("The lamp is ", "red"),
        ("The lamp is", " red"),
        ("The lamp is  ", " red"),
        ("Größe: 漢字 ", "🙂 ok"),
        ("Question: What is it?\nAnswer:", "\n\nyes"),
        (long, " The end."),
        (long + "x", long[:400]),
    ]
    asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in pairs]
    lm = EngineLM(engine, progress=False)
    assert_same_scores(lm.loglikelihood(asked), hugging_face.loglikelihood(asked, disable_tqdm=True))
    assert [fact.prompt_cut for fact in lm.facts] == [False] * 6 + [True] * 2

    rolling = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
        for text in (long, long[:900], "One line.")
    ]
    theirs = hugging_face.loglikelihood_rolling(rolling, disable_tqdm=True)
    for ours, other in zip(lm.loglikelihood_rolling(rolling), theirs, strict=True):
        assert ours == pytest.approx(other, rel=1e-5)


def generate_alone(hugging_face: HFLM, prompt: str, max_tokens: int) -> list[int]:
    """Hugging Face's own greedy continuation of one prompt, without padding."""
    token_ids = torch.tensor([hugging_face.tok_encode(prompt)])
    answer = hugging_face.model.generate(
        token_ids, attention_mask=torch.ones_like(token_ids), max_new_tokens=max_tokens, do_sample=False
    )
    return list(answer[0, token_ids.shape[1] :].tolist())


def assert_same_answers(engine: Engine, hugging_face: HFLM, asked: list[Instance], max_tokens: int) -> None:
    prompts = [request.args[0] for request in asked]
    greedy = SamplingParams(max_tokens=max_tokens, temperature=0.0)
    completions = engine.generate(prompts, greedy)
    for prompt, completion in zip(prompts, completions, strict=True):
        assert list(completion.token_ids) == generate_alone(hugging_face, prompt, max_tokens), prompt[-80:]
    texts = EngineLM(engine, progress=False).generate_until(asked)
    theirs = hugging_face.generate_until(asked, disable_tqdm=True)
    # Hugging Face decodes the answer as a document of its own, which drops the blank a first word begins with.
    assert [text.removeprefix(" ") for text in texts] == [text.removeprefix(" ") for text in theirs]


def test_answers_to_real_items(engine: Engine, hugging_face: HFLM, real_items: Path) -> None:
    asked = requests("adept_arc_easy", real_items, NUM_GENERATED)
    assert_same_answers(engine, hugging_face, asked, 8)


def test_answers_to_bundled_items(engine: Engine, hugging_face: HFLM) -> None:
    asked = requests("adept_arc_easy", DEMO_FOLDER, NUM_GENERATED)
    assert_same_answers(engine, hugging_face, asked, 8)


def test_long_answers_are_the_same(engine: Engine, hugging_face: HFLM) -> None:
    for prompt in PROMPTS:
        (completion,) = engine.generate([prompt], SamplingParams(max_tokens=200, temperature=0.0))
        assert list(completion.token_ids) == generate_alone(hugging_face, prompt, 200)

"""Which of four choices, on real questions: the choices as labels against lm-eval's own task, item by item."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import lm_eval
import pytest

from app.classify.labels import Label
from app.classify.zero_shot import ZeroShot, ZeroShotSettings, open_zero_shot
from evals import environment
from evals.engine_lm import EngineLM
from evals.run import load_tasks
from model.open_engine import DEMO_CHECKPOINT, open_engine

NUM_ITEMS = 40
REAL_ITEMS = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ["arc_easy", "arc_challenge"])
def test_the_choice_is_the_likelihood_tasks(benchmark: str) -> None:
    if not (REAL_ITEMS / f"{benchmark}.jsonl").is_file():
        pytest.skip("no real items in ../shared/data")
    environment.prepare(offline=True)
    task = f"likelihood_{benchmark}"
    manager, loaded = load_tasks([task], data=str(REAL_ITEMS), seed=0)
    engine = open_engine(str(DEMO_CHECKPOINT), device="cpu")
    try:
        results = lm_eval.simple_evaluate(
            EngineLM(engine, progress=False),
            tasks=loaded,
            task_manager=manager,
            limit=NUM_ITEMS,
            log_samples=True,
            bootstrap_iters=0,
        )
        # A few items have the same choice twice, which labels may not be.
        samples = [
            one for one in results["samples"][task] if len(set(one["doc"]["choices"]["text"])) == len(one["arguments"])
        ]
        assert len(samples) >= 0.9 * NUM_ITEMS

        async def classify(doc: dict[str, Any], scoring: Any) -> int:
            labels = tuple(Label(choice) for choice in doc["choices"]["text"])
            settings = ZeroShotSettings(labels=labels, template="Question: {text}\nAnswer: {label}", scoring=scoring)
            classifier: ZeroShot = await open_zero_shot(engine, settings)
            values = (await classifier.classify(doc["question"])).values
            return values.index(max(values))

        async def classify_all(scoring: str) -> list[int]:
            return await asyncio.gather(*[classify(sample["doc"], scoring) for sample in samples])

        chosen = {scoring: asyncio.run(classify_all(scoring)) for scoring in ("sum", "character")}
    finally:
        engine.close()
    for sample, by_sum, by_character in zip(samples, chosen["sum"], chosen["character"], strict=True):
        scores = [score for score, _ in sample["filtered_resps"]]
        lengths = [len(choice) for choice in sample["doc"]["choices"]["text"]]
        normed = [score / length for score, length in zip(scores, lengths, strict=True)]
        assert by_sum == scores.index(max(scores)), sample["doc"]["id"]
        assert by_character == normed.index(max(normed)), sample["doc"]["id"]
        right = sample["doc"]["choices"]["label"].index(sample["doc"]["answerKey"])
        assert sample["acc"] == float(by_sum == right)
        assert sample["acc_norm"] == float(by_character == right)

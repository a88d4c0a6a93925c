"""lm-eval's own back-end on the bundled checkpoint: the same answers, kept and counted like the engine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.answers import AnswerStore
from evals.errors import EvaluationError
from evals.models import ModelOptions, open_model, with_chat_format
from evals.run import load_tasks

pytestmark = pytest.mark.slow

OPTIONS = ModelOptions(device="cpu", dtype="float32", batch_size=4)


def requests(limit: int) -> tuple[list[Any], list[Any]]:
    _, (generated, scored) = load_tasks(["adept_triviaqa", "likelihood_arc_easy"], data="demo", seed=0)
    for task in (generated, scored):
        task.build_all_requests(limit=limit)
    return list(generated.instances), list(scored.instances)


def test_as_the_engine_and_resumed(tmp_path: Path) -> None:
    engine, hugging_face = (open_model(name, OPTIONS) for name in ("persimmon-demo", "hf:persimmon-demo"))
    same = ("name", "family", "num_parameters", "weights_sha256", "tokenizer_sha256", "bos", "notice")
    assert {key: engine.model[key] for key in same} == {key: hugging_face.model[key] for key in same}
    assert hugging_face.engine["backend"] == "hf"
    generated, scored = requests(6)
    ours: Any = engine.make_lm(None, False, 0, False)
    try:
        with AnswerStore(tmp_path, {}) as store:
            theirs: Any = hugging_face.make_lm(store, False, 0, False)
            texts = ours.generate_until(generated)
            assert all(text.startswith(" ") for text in texts)
            assert theirs.generate_until(generated[:4]) == texts[:4]
            assert len(store) == 4
            for (one, greedy), (other, other_greedy) in zip(
                ours.loglikelihood(scored), theirs.loglikelihood(scored), strict=True
            ):
                assert (one, greedy) == (pytest.approx(other, abs=1e-3), other_greedy)
            assert len(store) == 4 + len(scored)
        with AnswerStore(tmp_path, {}) as store:
            again: Any = hugging_face.make_lm(store, False, 0, False)
            assert again.generate_until(generated) == texts
            assert again.num_resumed["adept_triviaqa"] == 4
            assert [fact.doc_id for fact in again.facts] == list(range(6))
            numbers = [(fact.num_prompt_tokens, fact.finish_reason) for fact in again.facts]
            assert numbers == [(fact.num_prompt_tokens, fact.finish_reason) for fact in ours.facts[:6]]
            again.loglikelihood(scored)
            counted = [(fact.num_prompt_tokens, fact.num_answer_tokens) for fact in again.facts[6:]]
            assert counted == [(fact.num_prompt_tokens, fact.num_answer_tokens) for fact in ours.facts[6:]]
    finally:
        engine.close()
        hugging_face.close()
    with pytest.raises(EvaluationError, match="has no chat format in this back-end: use --chat-format raw"):
        with_chat_format(hugging_face, True)


def test_an_answer_as_long_as_the_context_is_refused_before_anything_is_asked() -> None:
    _, (task,) = load_tasks(["standard_humaneval"], data="demo", seed=0)
    task.build_all_requests(limit=1)
    opened = open_model("hf:persimmon-demo", OPTIONS)
    try:
        lm: Any = opened.make_lm(None, False, 0, False)
        with pytest.raises(EvaluationError, match=r"standard_humaneval allows answers of 1,024 tokens, .* --tasks"):
            lm.generate_until(list(task.instances))
    finally:
        opened.close()

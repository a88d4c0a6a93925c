"""Zero-shot classification: what is asked, how the answers become probabilities, and what is computed once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from scripted_engine import ScriptedEngine

from app.classify.labels import Example, Label, parse_examples, parse_labels
from app.classify.template import chat_template, plain_template
from app.classify.zero_shot import ZeroShotSettings, open_zero_shot
from model.engine.engine import LocalEngine
from model.interface import (
    ContextLengthExceeded,
    InvalidRequest,
    Priority,
    ScoreRequest,
    TokenScore,
    split_continuation,
)

GOOD_BAD = (Label("good"), Label("terrible"))


class TableEngine(ScriptedEngine):
    """Scores by a table: from the end of a prompt (the longest that is there) and an answer to its log-probability."""

    def __init__(self, table: dict[tuple[str, str], float]) -> None:
        super().__init__()
        self.table = table
        self.calls: list[list[tuple[str, str]]] = []

    async def ascore(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        decode = self.tokenizer.decode
        pairs = [(decode(one.context_token_ids), decode(one.continuation_token_ids)) for one in requests]
        self.calls.append(pairs)
        scores = []
        for (prompt, answer), request in zip(pairs, requests, strict=True):
            total = max(
                (len(end), value)
                for (end, said), value in self.table.items()
                if prompt.endswith(end) and said == answer
            )[1]
            length = len(request.continuation_token_ids)
            scores.append(
                TokenScore(
                    token_ids=request.continuation_token_ids,
                    logprobs=(total / length,) * length,
                    is_greedy=(False,) * length,
                )
            )
        return scores


def classify(engine: Any, text: str, settings: ZeroShotSettings) -> tuple[float, ...]:
    async def run() -> tuple[float, ...]:
        return (await (await open_zero_shot(engine, settings)).classify(text)).values

    return asyncio.run(run())


def share(first: float, second: float) -> float:
    return 1 / (1 + math.exp(second - first))


def settings(**changes: Any) -> ZeroShotSettings:
    values: dict[str, Any] = {"labels": GOOD_BAD, "template": "Text: {text}\nIt is {label}"}
    return ZeroShotSettings(**(values | changes))


FINE = {("fine\nIt is", " good"): -3.0, ("fine\nIt is", " terrible"): -4.0}
QUESTION = {("It is", " good"): -1.0, ("It is", " terrible"): -6.0}


@pytest.mark.parametrize(
    ("scoring", "good"),
    [
        ("sum", share(-3, -4)),
        ("token", share(-3 / 5, -4 / 9)),  # with the blank before it
        ("character", share(-3 / 4, -4 / 8)),
        ("pmi", share(-3 - -1, -4 - -6)),
    ],
)
def test_scorings(scoring: str, good: float) -> None:
    engine = TableEngine(FINE | QUESTION)
    assert classify(engine, "fine", settings(scoring=scoring)) == pytest.approx((good, 1 - good))
    engine.close()


def test_calibration_divides_by_what_neutral_texts_get() -> None:
    neutral = {("N/A\nIt is", " good"): -1.0, ("N/A\nIt is", " terrible"): -2.0}
    empty = {("Text: \nIt is", " good"): -1.0, ("Text: \nIt is", " terrible"): -1.0}
    engine = TableEngine(FINE | neutral | empty)
    prior = (share(-1, -2) + 0.5) / 2
    weights = share(-3, -4) / prior, (1 - share(-3, -4)) / (1 - prior)
    got = classify(engine, "fine", settings(neutral_texts=("N/A", "")))
    assert got == pytest.approx(tuple(weight / sum(weights) for weight in weights))
    engine.close()


def test_several_labels_are_questions_of_their_own() -> None:
    engine = TableEngine(
        {
            ("goal!\nAbout sport?", " Yes"): -1.0,
            ("goal!\nAbout sport?", " No"): -3.0,
            ("goal!\nAbout art?", " Yes"): -5.0,
            ("goal!\nAbout art?", " No"): -1.0,
        }
    )
    asked = settings(labels=(Label("sport"), Label("art")), template="{text}\nAbout {label}?", several=True)
    assert classify(engine, "goal!", asked) == pytest.approx((share(-1, -3), share(-5, -1)))
    assert len(engine.calls) == 1
    engine.close()


def test_examples_stand_before_the_text_with_their_answers() -> None:
    labels = parse_labels("good: the writer likes it\n\n terrible")
    assert labels == (Label("good", "the writer likes it"), Label("terrible"))
    one = settings(
        labels=labels,
        template="{labels}? {text} - {label}!",
        examples=parse_examples("nice => good\na => b => terrible", labels, several=False),
    )
    before = "good (the writer likes it) or terrible? "
    assert one.questions("x {label}") == [
        (f"{before}nice - good!\n\n{before}a => b - terrible!\n\n{before}x {{label}} - ", ("good!", "terrible!"))
    ]
    several = settings(
        labels=(Label("good", "liked"), Label("terrible")),
        template="{text}: {label}?",
        several=True,
        examples=(Example("nice", ("good",)), Example("so", ())),
    )
    assert several.questions("x") == [
        ("nice: good (liked)? Yes\n\nso: good (liked)? No\n\nx: good (liked)?", (" Yes", " No")),
        ("nice: terrible? No\n\nso: terrible? No\n\nx: terrible?", (" Yes", " No")),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (Label("a"),)}, "one label alone is always right"),
        ({"labels": (Label("a"), Label("a"))}, "the label 'a' is there 2 times"),
        ({"labels": ()}, "0 labels are not allowed"),
        ({"template": "{text}"}, "has {label} 0 times"),
        ({"template": "{label}: {text}"}, "the label must come last"),
        ({"template": "{text} {labl} {label}"}, "has {labl}: it may have"),
        ({"labels": (Label("a", "b"), Label("c"))}, "no place for them: put {labels}"),
        ({"scoring": "mean"}, "scoring='mean' is not allowed"),
        ({"examples": (Example("x", ("z",)),)}, "example 1 has the label 'z'"),
        ({"examples": (Example("x", ()),)}, "example 1 has 0 labels"),
        ({"answers": ("Yes", "Yes")}, "two different words"),
        ({"threshold": 1.0}, "threshold=1.0 is not allowed"),
    ],
)
def test_a_wrong_setting_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message.replace("{", r"\{").replace("}", r"\}")):
        settings(**changes)


def test_own_templates_are_valid() -> None:
    engine = ScriptedEngine()
    for several in (False, True):
        for template in (plain_template(several=several), chat_template(engine, several=several)):
            settings(template=template, several=several)
    engine.close()


def test_the_context_is_computed_once_for_all_labels(engine: LocalEngine) -> None:
    labels = tuple(Label(name) for name in ("France", "Paris", "times", "lazy dog"))
    asked = settings(labels=labels, template="The capital is {text}, they say: {label}")
    text = "the quick brown fox"
    ((prompt, answers),) = asked.questions(text)
    pairs = [split_continuation(engine.tokenizer, prompt, answer) for answer in answers]
    context = len(pairs[0].context_token_ids)
    assert all(pair.context_token_ids == pairs[0].context_token_ids for pair in pairs)

    before = engine.stats()
    values = classify(engine, text, asked)
    after = engine.stats()
    assert sum(values) == pytest.approx(1)
    num_prompt_tokens = after.num_prompt_tokens - before.num_prompt_tokens
    num_computed = num_prompt_tokens - (after.num_cached_tokens - before.num_cached_tokens)
    in_continuations = sum(len(pair.continuation_token_ids) - 1 for pair in pairs)
    # Each fork computes its context's last token again at the most.
    assert num_prompt_tokens > len(labels) * context
    assert num_computed <= context + in_continuations + len(labels)


def test_labels_scored_together_are_as_scored_alone(engine: LocalEngine) -> None:
    asked = settings(labels=(Label("France"), Label("Paris"), Label("times")), template="{text} they say: {label}")
    ((prompt, answers),) = asked.questions("the fox")
    alone = []
    for answer in answers:
        pair = split_continuation(engine.tokenizer, prompt, answer)
        request = ScoreRequest(
            context_token_ids=pair.context_token_ids, continuation_token_ids=pair.continuation_token_ids
        )
        alone.append(engine.score([request])[0].loglikelihood)
    weights = [math.exp(value) for value in alone]
    assert classify(engine, "the fox", asked) == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-5)


def test_a_text_that_is_too_long_is_refused_or_cut(engine: LocalEngine) -> None:
    async def run() -> None:
        classifier = await open_zero_shot(engine, settings())
        with pytest.raises(ContextLengthExceeded):
            await classifier.classify("fox " * 500)
        cut = await classifier.classify("fox " * 500, cut=True)
        assert cut.is_cut
        assert not (await classifier.classify("fox", cut=True)).is_cut
        whole = await classifier.classify("fox " * 20)
        assert whole.labels[0] in ("good", "terrible")

    asyncio.run(run())

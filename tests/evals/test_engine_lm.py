"""The adapter on scripted engines: token splits, cuts, sampling values, and what it keeps of each request."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from scripted_engine import GREEDY_LOGPROB, ByteTokenizer, ScriptedEngine

from evals.answers import AnswerStore
from evals.asking_lm import MAX_FAILURES_IN_A_ROW
from evals.engine_lm import IN_FLIGHT_FACTOR, EngineLM
from evals.errors import EvaluationError
from model.interface import EngineError, ScoreRequest, TokenScore

Open = Callable[..., ScriptedEngine]


def ask(kind: str, *arguments: Any, task: str = "task") -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=0, metadata=(task, number, 1))
        for number, one in enumerate(arguments)
    ]


def scored(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, *, even: bool = False) -> list[list[ScoreRequest]]:
    """The batches of score requests the engine gets; with `even` each token's log-probability is -1."""
    batches: list[list[ScoreRequest]] = []
    score = engine.ascore

    async def spy(requests: Sequence[ScoreRequest]) -> list[TokenScore]:
        batches.append(list(requests))
        if not even:
            return await score(requests)
        continuations = [request.continuation_token_ids for request in requests]
        return [
            TokenScore(token_ids=ids, logprobs=(-1.0,) * len(ids), is_greedy=(True,) * len(ids))
            for ids in continuations
        ]

    monkeypatch.setattr(engine, "ascore", spy)
    return batches


class PairTokenizer(ByteTokenizer):
    """Bytes, but "ab" is one token, 300: a context that ends in "a" merges with a continuation that begins with "b"."""

    def encode(self, text: str) -> list[int]:
        return [token for part in text.split("ab") for token in (300, *super(PairTokenizer, self).encode(part))][1:]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join("ab" if token == 300 else super(PairTokenizer, self).decode([token]) for token in token_ids)


@pytest.fixture
def merging(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    engine = scripted()
    monkeypatch.setattr(engine, "_tokenizer", PairTokenizer())
    return engine


def test_loglikelihood(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted(lambda prompt: " yes" if "?" in prompt else " no")
    batches = scored(engine, monkeypatch)
    lm = EngineLM(engine, progress=False)
    yes, yet, moved = lm.loglikelihood(ask("loglikelihood", ("a?", " yes"), ("a?", " yet"), ("a? ", "yes")))
    assert yes == (pytest.approx(4 * GREEDY_LOGPROB), True)
    assert yet[1] is False
    assert moved == yes  # blanks at the end of a context belong to the continuation, as lm-eval has it
    assert batches[1][0] == batches[0][0]
    assert [fact.num_answer_tokens for fact in lm.facts] == [4, 4, 4]
    assert lm.facts[0].task == "task"
    assert [fact.doc_id for fact in lm.facts] == [0, 1, 2]
    assert lm.seconds["task"] > 0


def test_empty_context_begins_at_the_prefix_token(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted()
    batches = scored(engine, monkeypatch)
    EngineLM(engine, progress=False).loglikelihood(ask("loglikelihood", ("", "ab")))
    assert batches[0][0] == ScoreRequest(context_token_ids=(256,), continuation_token_ids=(97, 98))


def test_prefix_token_is_the_end_of_document_without_a_bos(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted()
    monkeypatch.setattr(ByteTokenizer, "bos_token_id", None)
    monkeypatch.setattr(ByteTokenizer, "eos_token_ids", (7, 8))
    assert EngineLM(engine).prefix_token_id == 7
    monkeypatch.setattr(ByteTokenizer, "eos_token_ids", ())
    with pytest.raises(EvaluationError, match="names no end-of-document token"):
        _ = EngineLM(engine).prefix_token_id


@pytest.mark.parametrize(
    ("context", "continuation", "context_ids", "continuation_ids"),
    [
        ("xa", "b", (120,), (300,)),  # "xab" has as many tokens as "xa": lm-eval would find nothing to score
        ("a", "b", (256,), (300,)),  # nothing is left of the context
        ("a", "bc", (97,), (99,)),  # lm-eval's own split, kept for equal figures
    ],
)
def test_merged_context_and_continuation(
    merging: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
    context: str,
    continuation: str,
    context_ids: tuple[int, ...],
    continuation_ids: tuple[int, ...],
) -> None:
    batches = scored(merging, monkeypatch)
    lm = EngineLM(merging, progress=False)
    lm.loglikelihood(ask("loglikelihood", (context, continuation)))
    assert batches == [[ScoreRequest(context_token_ids=context_ids, continuation_token_ids=continuation_ids)]]
    assert lm.facts[0].merged is (continuation == "b")


def test_empty_continuation_is_refused(scripted: Open) -> None:
    with pytest.raises(EvaluationError, match="the continuation after 'the context' is empty"):
        EngineLM(scripted(), progress=False).loglikelihood(ask("loglikelihood", ("the context", "")))


def test_long_context_is_cut_from_the_left(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last scored token is never read, so one more than the context length can be sent."""
    engine = scripted(context_length=9)
    batches = scored(engine, monkeypatch, even=True)
    lm = EngineLM(engine, progress=False)
    lm.loglikelihood(ask("loglikelihood", ("0123456789", "abc"), ("0123456", "abc"), ("x", "abcdefghi")))
    contexts = [bytes(request.context_token_ids).decode() for (request,) in batches]
    assert contexts == ["3456789", "0123456", "x"]
    assert [fact.prompt_cut for fact in lm.facts] == [True, False, False]
    with pytest.raises(EvaluationError, match="a continuation of 10 tokens cannot be scored"):
        lm.loglikelihood(ask("loglikelihood", ("x", "abcdefghij")))


def test_rolling_predicts_every_token_once(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted(context_length=5)
    batches = scored(engine, monkeypatch, even=True)
    lm = EngineLM(engine, progress=False)
    totals = lm.loglikelihood_rolling(ask("loglikelihood_rolling", ("abcdefghijklm",), ("xy",), ("",)))
    requests = list(itertools.chain(*batches))
    texts = [bytes(request.continuation_token_ids).decode() for request in requests]
    assert texts == ["abcde", "fghij", "klm", "xy"]
    assert requests[0].context_token_ids == (256,)
    assert bytes(requests[2].context_token_ids) == b"hij"
    assert totals == [-13.0, -2.0, 0.0]
    assert [(fact.doc_id, fact.num_answer_tokens) for fact in lm.facts] == [(0, 13), (1, 2), (2, 0)]


def test_overlapping_windows_are_an_option(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted(context_length=5)
    batches = scored(engine, monkeypatch, even=True)
    lm = EngineLM(engine, progress=False, rolling_overlap=3)
    assert lm.loglikelihood_rolling(ask("loglikelihood_rolling", ("abcdefghijkl",))) == [-12.0]
    windows = [(request.context_token_ids, request.continuation_token_ids) for request in batches[0]]
    assert windows[0] == ((256,), tuple(b"abcde"))
    assert [(bytes(context), bytes(tokens)) for context, tokens in windows[1:]] == [
        (b"cde", b"fgh"),
        (b"fgh", b"ijk"),
        (b"ghijk", b"l"),
    ]
    for overlap in (0, 6):
        with pytest.raises(EvaluationError, match=f"rolling_overlap={overlap} is not allowed: .* context length 5"):
            EngineLM(engine, rolling_overlap=overlap)


def test_generation(scripted: Open) -> None:
    engine = scripted(lambda prompt: f" {prompt}|tail", max_num_requests=2)
    lm = EngineLM(engine, progress=False)
    prompts = [f"prompt {number}" for number in range(40)]
    texts = lm.generate_until(ask("generate_until", *((prompt, {"until": ["|", ""]}) for prompt in prompts)))
    assert texts == [f" {prompt}" for prompt in prompts]
    assert {fact.finish_reason for fact in lm.facts} == {"stop"}
    params = engine.requests[0][1]
    assert (params.temperature, params.stop, params.max_tokens) == (0.0, ("|",), 256)
    assert set(engine.priorities) == {"batch"}  # a person at the chat goes first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"until": "x", "max_gen_toks": 3}, {"stop": ("x",), "max_tokens": 3, "temperature": 0}),
        ({"max_new_tokens": 5, "do_sample": False, "temperature": 0.7}, {"max_tokens": 5, "temperature": 0}),
        ({"do_sample": True, "temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"do_sample": False, "top_p": 0.9}, {"temperature": 0, "top_p": 1.0}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"repetition_penalty": 1.2}, {"temperature": 0, "repetition_penalty": 1.2}),
    ],
)
def test_sampling_values(scripted: Open, options: dict[str, Any], expected: dict[str, Any]) -> None:
    engine = scripted()
    EngineLM(engine, progress=False).generate_until(ask("generate_until", ("p", options)))
    params = engine.requests[0][1]
    assert {name: getattr(params, name) for name in expected} == expected


def test_bad_options_are_refused(scripted: Open) -> None:
    lm = EngineLM(scripted(context_length=64), progress=False)
    for options, message in (
        ({"num_beams": 4}, "generation option 'num_beams' is not known"),
        ({"do_sample": True}, "do_sample needs a temperature above 0"),
    ):
        with pytest.raises(EvaluationError, match=message):
            lm.generate_until(ask("generate_until", ("p", options)))


def test_sampled_repeats_differ_and_can_be_repeated(scripted: Open) -> None:
    options = {"do_sample": True, "temperature": 1.0}

    def seeds(seed: int) -> list[int | None]:
        engine = scripted()
        requests = ask("generate_until", ("p", options), ("p", options))
        EngineLM(engine, seed=seed, progress=False).generate_until([requests[0], *requests])
        return [params.seed for _, params in engine.requests]

    assert len(set(seeds(0))) == 3
    assert seeds(0) == seeds(0) != seeds(1)


def test_long_prompt_leaves_room_for_the_answer(scripted: Open) -> None:
    engine = scripted(lambda prompt: "abcdefghij", context_length=12)
    lm = EngineLM(engine, progress=False)
    texts = lm.generate_until(
        ask(
            "generate_until",
            ("0123456789", {"max_gen_toks": 4}),
            ("01234567", {"max_gen_toks": 4}),
            ("", {"max_gen_toks": 4}),
        )
    )
    assert texts == ["abcd"] * 3
    assert [prompt for prompt, _ in engine.requests] == ["23456789", "01234567", ""]
    assert [fact.prompt_cut for fact in lm.facts] == [True, False, False]
    assert {fact.finish_reason for fact in lm.facts} == {"length"}
    assert [fact.num_prompt_tokens for fact in lm.facts] == [8, 8, 1]  # an empty prompt is the prefix token


def test_an_answer_as_long_as_the_context_gets_what_the_prompt_leaves(scripted: Open) -> None:
    """lm-eval's HumanEval asks for up to 1,024 tokens, of small models too."""
    engine = scripted(lambda prompt: "abcdefghijkl", context_length=12)
    lm = EngineLM(engine, progress=False)
    options = {"max_gen_toks": 12}
    assert lm.generate_until(ask("generate_until", ("01234567", options))) == ["abcd"]
    assert [(fact.prompt_cut, fact.finish_reason) for fact in lm.facts] == [(False, "length")]


def test_choices_of_one_context_go_together(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted(max_num_requests=1)
    batches = scored(engine, monkeypatch)
    arguments = [(f"context {number // 3}", f" choice {number}") for number in range(10 * 3)]
    EngineLM(engine, progress=False).loglikelihood(ask("loglikelihood", *arguments))
    assert [len(batch) for batch in batches] == [3] * 10
    assert all(len({request.context_token_ids for request in batch}) == 1 for batch in batches)


def test_the_engine_always_has_enough_to_do_and_no_more(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted(max_num_requests=3)
    generate = engine.agenerate
    running, most = 0, 0

    async def spy(*arguments: Any, **options: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await generate(*arguments, **options)
        finally:
            running -= 1

    monkeypatch.setattr(engine, "agenerate", spy)
    EngineLM(engine, progress=False).generate_until(ask("generate_until", *((f"p{n}", {}) for n in range(30))))
    assert most == 3 * IN_FLIGHT_FACTOR


def test_what_was_answered_is_not_asked_again(scripted: Open, tmp_path: Path) -> None:
    requests = ask("generate_until", *((f"p{number}", {"until": ["|"]}) for number in range(9)))
    scoring = ask("loglikelihood", ("a?", " yes"), ("a?", " no"))
    engine = scripted(lambda prompt: f" {prompt}|tail")
    with AnswerStore(tmp_path, {"model": "m"}) as store:
        lm = EngineLM(engine, store=store, progress=False)
        first = lm.generate_until(requests[:5]), lm.loglikelihood(scoring)
    asked = len(engine.requests)
    with AnswerStore(tmp_path, {"model": "m"}) as store:
        again = EngineLM(engine, store=store, progress=False)
        assert (again.generate_until(requests[:5]), again.loglikelihood(scoring)) == first
        assert len(engine.requests) == asked
        assert again.facts == lm.facts
        assert again.num_resumed["task"] == 7
        assert len(again.generate_until(requests)) == 9
        assert len(engine.requests) == asked + 4
    with AnswerStore(tmp_path, {"model": "another"}) as store:
        EngineLM(engine, store=store, progress=False).generate_until(requests[:5])
        assert len(engine.requests) == asked + 9


def failing(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> None:
    generate = engine.agenerate

    async def spy(prompts: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        if fails(bytes(prompts[0]).decode()):
            raise EngineError("layer 3 gave a result that is not finite")
        return await generate(prompts, *arguments, **options)

    monkeypatch.setattr(engine, "agenerate", spy)


def test_a_failed_request_is_no_answer(scripted: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = scripted(lambda prompt: " yes")
    failing(engine, monkeypatch, lambda prompt: prompt == "p3")
    requests = ask("generate_until", *((f"p{number}", {}) for number in range(6)))
    with AnswerStore(tmp_path, {}) as store:
        lm = EngineLM(engine, store=store, progress=False)
        assert lm.generate_until(requests) == [" yes", " yes", " yes", "", " yes", " yes"]
        assert [fact.failed for fact in lm.facts] == [False, False, False, True, False, False]
        assert lm.facts[3].error == "layer 3 gave a result that is not finite"
        assert len(store) == 5  # it is asked again by the next run


def test_a_model_that_always_fails_stops_the_run(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted()
    failing(engine, monkeypatch, lambda prompt: True)
    requests = ask("generate_until", *((f"p{number}", {}) for number in range(100)))
    with pytest.raises(EvaluationError, match=f"{MAX_FAILURES_IN_A_ROW} requests failed one after the other"):
        EngineLM(engine, progress=False).generate_until(requests)


def test_in_chat_format_its_ends_are_ends(scripted: Open) -> None:
    engine = scripted()
    lm = EngineLM(engine, chat_format=True, progress=False)
    lm.generate_until(ask("generate_until", ("p", {"until": ["|"]})))
    assert engine.requests[0][1].stop == ("|", *engine.chat_template.stop)


def test_tasks_are_timed_apart_and_answers_keep_their_order(scripted: Open) -> None:
    engine = scripted(lambda prompt: f" {prompt}")
    lm = EngineLM(engine, progress=False)
    options = {"max_gen_toks": 20}
    first = ask("generate_until", ("a", options), ("b", options), task="one")
    second = ask("generate_until", ("c", options), ("d", options), task="two")
    mixed = [first[0], second[0], first[1], second[1]]
    assert lm.generate_until(mixed) == [" a", " c", " b", " d"]
    assert set(lm.seconds) == {"one", "two"}
    assert [fact.task for fact in lm.facts] == ["one", "two", "one", "two"]


def test_failures_are_counted(scripted: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted()
    nan = TokenScore(token_ids=(97,), logprobs=(math.nan,), is_greedy=(False,))
    score = engine.ascore

    async def first_is_nan(requests: Sequence[ScoreRequest]) -> list[TokenScore]:
        return [nan] if requests[0].context_token_ids == (120,) else await score(requests)

    monkeypatch.setattr(engine, "ascore", first_is_nan)
    lm = EngineLM(engine, progress=False)
    lm.loglikelihood(ask("loglikelihood", ("x", "a"), ("y", "a")))
    assert [fact.error for fact in lm.facts] == ["its log-probability is not finite", None]
    with pytest.raises(EvaluationError, match="all 1 requests of task failed, the last because its log-probability"):
        lm.loglikelihood(ask("loglikelihood", ("x", "a")))


def test_chat_template(scripted: Open) -> None:
    lm = EngineLM(scripted(), progress=False)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert lm.apply_chat_template(turns) == "Be brief.\n\nhuman: Hi\n\nadept:"
    begun = [*turns, {"role": "assistant", "content": "The answer is"}]
    assert lm.apply_chat_template(begun, add_generation_prompt=False).endswith("\n\nadept: The answer is")
    assert lm.chat_template(True) == lm.chat_template("persimmon") == "persimmon"
    assert lm.chat_template(False) is None
    assert lm.tokenizer_name == "scripted-engine-" + "1" * 12
    with pytest.raises(EvaluationError, match="this model has only 'persimmon'"):
        lm.chat_template("other")

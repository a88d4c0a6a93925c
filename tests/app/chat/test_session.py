"""The conversation, its settings, and answers as they are written, on the scripted engine."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from scripted_engine import ScriptedEngine

from app.chat import session
from app.chat.conversation import Answer, Conversation
from app.chat.session import (
    LONGEST_WAIT_S,
    SHORTEST_BETWEEN_UPDATES_S,
    AnswerStream,
    LiveAnswers,
    TextStream,
    without_started_stop,
)
from app.chat.settings import PRESETS, ChatSettings, parse_stop_strings
from model.interface import (
    MAX_SEED,
    ChatMessage,
    ContextLengthExceeded,
    EngineError,
    InvalidRequest,
    SamplingParams,
)

ASKED = Conversation().ask("Hello?")


async def read(stream: AnswerStream) -> list[Answer]:
    return [answer async for answer in stream.updates()]


def answered(*exchanges: tuple[str, str]) -> Conversation:
    conversation = Conversation()
    for question, text in exchanges:
        conversation = conversation.ask(question).answered(Answer(text=text, phase="done"))
    return conversation


def test_ask_retry_undo_and_edit() -> None:
    two = answered(("a", "A"), ("b", "B"))
    assert two.retry().turns == (*two.turns[:1], Conversation().ask("b").turns[0])
    assert two.undo() == (answered(("a", "A")), "b")
    assert two.edit(0, " c ") == Conversation().ask("c")
    assert two.edit(1, "c").turns[0] == two.turns[0]
    assert len(two.turns) == 2
    edited = two.edit_answer(0, "A, ").turns
    assert [(turn.question, turn.answer and turn.answer.text) for turn in edited] == [("a", "A, ")]
    assert two.continued().messages()[-2:] == [ChatMessage("user", "b"), ChatMessage("assistant", "B")]


def test_a_conversation_keeps_its_identity_and_has_a_title() -> None:
    first, second = (Conversation().ask("What  is\nthis?") for _ in range(2))
    assert first.identity
    assert first.identity != second.identity
    assert {first.edit(0, "x").identity, first.answered(None).identity, first.undo()[0].identity} == {first.identity}
    assert (Conversation().shown_title, first.shown_title) == ("New conversation", "What is this?")
    assert Conversation().ask("word " * 40).shown_title == "word " * 15 + "word…"


@pytest.mark.parametrize(
    "action",
    [
        lambda: Conversation().ask(" \n"),
        lambda: Conversation().retry(),
        lambda: Conversation().undo(),
        lambda: Conversation().edit(0, "x"),
        lambda: answered(("a", "A")).edit(0, ""),
        lambda: answered(("a", "A")).edit(-1, "x"),
        lambda: answered(("a", "A")).edit_answer(1, "x"),
        lambda: answered(("a", "A")).edit_answer(0, " "),
        lambda: Conversation().ask("a").edit_answer(0, "x"),
        lambda: Conversation().continued(),
        lambda: answered(("a", "")).continued(),
    ],
)
def test_impossible_actions_say_so(action: Any) -> None:
    with pytest.raises(InvalidRequest):
        action()


def test_messages_leave_out_what_was_never_answered() -> None:
    conversation = answered(("a", "A"), ("b", "")).ask("c")
    assert conversation.messages("Be brief.") == [
        ChatMessage("prefix", "Be brief."),
        ChatMessage("user", "a"),
        ChatMessage("assistant", "A"),
        ChatMessage("user", "c"),
    ]
    assert conversation.messages(" \n")[0].role == "user"


def test_settings_become_sampling_params() -> None:
    settings = ChatSettings(
        temperature=0, top_p=0.9, top_k=40.0, max_tokens=7.0, seed=" 12 ", stop="END\n\n\\n\\n\na\\\\b"
    )
    assert settings.sampling(("\n\nhuman:",)) == SamplingParams(
        temperature=0,
        top_p=0.9,
        top_k=40,
        max_tokens=7,
        seed=12,
        stop=("\n\nhuman:", "END", "\n\n", "a\\b"),
    )
    assert ChatSettings(max_tokens=None).sampling(()).max_tokens is None


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": None}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"seed": "abc"}, "seed"),
        ({"seed": "-1"}, "seed"),
        ({"seed": str(MAX_SEED + 1)}, "seed"),
        ({"seed": "9" * 10_000}, "seed"),
        ({"seed": "²"}, "seed"),
        ({"stop": "\n".join(f"s{n}" for n in range(20))}, "stop"),
        ({"stop": "a\\x"}, "stop"),
    ],
)
def test_invalid_settings_name_the_setting(values: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest, match=name) as failed:
        ChatSettings(**values).sampling(("\n\nhuman:",))
    assert "\n" not in str(failed.value)


def test_a_preset_fills_what_it_names() -> None:
    chosen = ChatSettings(temperature=0.3, top_p=0.5, top_k=7, min_p=0.1, max_tokens=9, seed="1")
    assert chosen.filled(PRESETS["Greedy"]) == ChatSettings(temperature=0, max_tokens=9, seed="1")
    assert chosen.filled(PRESETS["Adept"]) == ChatSettings(temperature=1, max_tokens=64, seed="1")


def test_stop_string_escapes() -> None:
    assert parse_stop_strings("a\\tb\n\\\\n") == ["a\tb", "\\n"]
    with pytest.raises(InvalidRequest):
        parse_stop_strings("ends with \\")


@pytest.mark.asyncio
async def test_an_answer_grows_and_ends_with_its_record() -> None:
    engine = ScriptedEngine(lambda prompt: " one\n\ntwo\n\nhuman: three", tokens_per_s=40)
    updates = await read(AnswerStream(engine, ASKED, ChatSettings(seed="5")))
    texts = [answer.text for answer in updates]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert len(set(texts)) >= 3
    assert [answer.is_final for answer in updates] == [False] * (len(updates) - 1) + [True]
    final = updates[-1]
    assert final.text == "one\n\ntwo"
    assert final.outcome is not None
    assert (final.outcome.seed, final.outcome.finish_reason, final.outcome.num_prompt_tokens) == (5, "stop", 21)
    assert (final.model, final.settings) == ("scripted-engine", ChatSettings(seed="5"))
    assert final.tokens_per_s == pytest.approx(40, rel=0.3)
    assert engine.requests == [
        ("human: Hello?\n\nadept:", SamplingParams(temperature=0.7, seed=5, stop=("\n\nhuman:",)))
    ]
    engine.close()


@pytest.mark.asyncio
async def test_the_prompt_is_prefix_history_and_question() -> None:
    engine = ScriptedEngine()
    conversation = answered(("a", "A")).ask("b")
    await read(AnswerStream(engine, conversation, ChatSettings(prefix="Be brief.")))
    assert engine.requests[0][0] == "Be brief.\n\nhuman: a\n\nadept: A\n\nhuman: b\n\nadept:"
    engine.close()


@pytest.mark.asyncio
async def test_an_answer_is_continued_from_where_it_ends() -> None:
    engine = ScriptedEngine(lambda prompt: " three.\n\nhuman: no")
    conversation = answered(("a", "A"), ("count", "whatever")).edit_answer(1, "one, two,")
    final = (await read(AnswerStream(engine, conversation, ChatSettings())))[-1]
    assert (final.text, final.num_given) == ("one, two, three.", 9)
    assert engine.requests[0][0] == "human: a\n\nadept: A\n\nhuman: count\n\nadept: one, two,"
    engine.close()


@pytest.mark.asyncio
async def test_a_text_goes_on_without_a_chat_format() -> None:
    engine = ScriptedEngine(lambda prompt: " there\n\nhuman: yes")
    final = (await read(TextStream(engine, "Once, ", ChatSettings(), given="Once, ")))[-1]
    assert final.text == "Once,  there\n\nhuman: yes"
    assert engine.requests[0] == ("Once, ", SamplingParams(temperature=0.7))
    engine.close()


@pytest.mark.asyncio
async def test_updates_are_at_most_ten_a_second_and_the_last_text_is_shown() -> None:
    engine = ScriptedEngine(lambda prompt: "x" * 1000, tokens_per_s=1000)
    start = time.perf_counter()
    updates = await read(AnswerStream(engine, ASKED, ChatSettings(max_tokens=1000)))
    assert len(updates) <= (time.perf_counter() - start) / SHORTEST_BETWEEN_UPDATES_S + 2
    assert updates[-1].text == "x" * 1000
    engine.close()


@pytest.mark.asyncio
async def test_where_many_answers_are_shown_each_is_updated_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: set[tuple[int, float]] = set()
    rest = session._rest

    async def recorded(seconds: float, stopped: asyncio.Event) -> None:
        rests.add((TextStream._num_shown, round(seconds, 6)))
        await rest(seconds, stopped)

    monkeypatch.setattr(session, "STREAMS_AT_FULL_RATE", 2)
    monkeypatch.setattr(session, "_rest", recorded)
    engine = ScriptedEngine(lambda prompt: "x" * 40, tokens_per_s=50, max_num_requests=12)
    for num_shown in (1, 3, 12):
        streams = [AnswerStream(engine, ASKED, ChatSettings()) for _ in range(num_shown)]
        answers = await asyncio.gather(*(read(stream) for stream in streams))
        assert {one[-1].text for one in answers} == {"x" * 40}
    engine.close()
    assert {(1, 0.1), (3, 0.15), (12, 0.4)} <= rests  # a tenth of a second, and four times that at most
    assert all(seconds == pytest.approx(min(max(1, shown / 2), 4) / 10) for shown, seconds in rests)


@pytest.mark.asyncio
async def test_the_wait_for_the_first_token_gives_an_update_every_quarter_second() -> None:
    engine = ScriptedEngine(ttft_s=1.2)
    times = [time.perf_counter()]
    phases = []
    async for answer in AnswerStream(engine, ASKED, ChatSettings()).updates():
        times.append(time.perf_counter())
        phases.append(answer.phase)
    assert phases[:3] == ["reading"] * 3
    assert max(after - before for before, after in pairwise(times)) < LONGEST_WAIT_S + 0.2
    engine.close()


@pytest.mark.asyncio
async def test_waiting_in_the_queue_is_told_and_can_be_stopped() -> None:
    engine = ScriptedEngine(tokens_per_s=1, max_num_requests=1)
    first = AnswerStream(engine, ASKED, ChatSettings())
    engine.wait_for(lambda stats: stats.num_running == 1)
    second = AnswerStream(engine, ASKED, ChatSettings())
    states = []
    async for answer in second.updates():
        states.append((answer.phase, answer.place))
        if answer.phase == "waiting":
            second.stop()
    assert states == [("reading", None), ("waiting", 1), ("done", None)]
    assert (engine.stats().num_running, engine.stats().num_waiting) == (1, 0)
    first.stop()
    engine.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("options", [{"ttft_s": 10}, {"tokens_per_s": 20}], ids=["reading", "writing"])
async def test_stop_ends_within_a_quarter_second_and_keeps_the_text(options: dict[str, Any]) -> None:
    engine = ScriptedEngine(lambda prompt: "abcdefghij" * 100, **options)
    stream = AnswerStream(engine, ASKED, ChatSettings())
    updates: list[Answer] = []

    async def collect() -> None:
        updates.extend(await read(stream))

    task = asyncio.create_task(collect())
    await asyncio.sleep(0.4)
    start = time.perf_counter()
    stream.stop()
    await task
    assert time.perf_counter() - start < 0.25
    assert engine.stats().num_running == 0
    final = updates[-1]
    assert final.is_final
    assert bool(final.text) == ("tokens_per_s" in options)
    assert final.outcome is None or final.outcome.finish_reason == "abort"
    engine.close()


@pytest.mark.asyncio
async def test_leaving_the_updates_aborts() -> None:
    engine = ScriptedEngine(tokens_per_s=10)
    updates = AnswerStream(engine, ASKED, ChatSettings()).updates()
    await anext(updates)
    await updates.aclose()
    assert engine.stats().num_running == 0
    engine.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("fail_after", [0, 3])
async def test_a_failing_request_is_an_answer_that_says_so(fail_after: int) -> None:
    engine = ScriptedEngine(
        lambda prompt: "abcdef",
        tokens_per_s=50,
        failure=lambda prompt: EngineError("out of luck"),
        fail_after=fail_after,
    )
    final = (await read(AnswerStream(engine, ASKED, ChatSettings())))[-1]
    assert (final.phase, final.error, final.text) == ("failed", "out of luck", "abcdef"[:fail_after])
    engine.close()


@pytest.mark.asyncio
async def test_an_engine_that_closes_ends_the_answer() -> None:
    engine = ScriptedEngine(tokens_per_s=5)
    updates = AnswerStream(engine, ASKED, ChatSettings()).updates()
    await anext(updates)
    engine.close()
    assert [answer.phase async for answer in updates][-1] == "failed"


def test_a_prompt_too_long_says_both_numbers() -> None:
    engine = ScriptedEngine(context_length=20)
    with pytest.raises(ContextLengthExceeded, match=r"21 tokens .* 19"):
        AnswerStream(engine, ASKED, ChatSettings())
    assert engine.stats().num_waiting == 0
    engine.close()


@pytest.mark.asyncio
async def test_a_cut_answer_does_not_show_the_start_of_the_stop_string() -> None:
    engine = ScriptedEngine(lambda prompt: "done\n\nhuman: more")
    final = (await read(AnswerStream(engine, ASKED, ChatSettings(max_tokens=10))))[-1]
    assert final.outcome is not None
    assert (final.text, final.outcome.finish_reason) == ("done", "length")
    assert without_started_stop("a\n\nhu", ("\n\nhuman:",)) == "a"
    assert without_started_stop("a\n\nb", ("\n\nhuman:",)) == "a\n\nb"
    engine.close()


def test_live_answers_are_one_a_tab() -> None:
    engine = ScriptedEngine(tokens_per_s=1)
    live = LiveAnswers()
    first, second = (AnswerStream(engine, ASKED, ChatSettings()) for _ in range(2))
    live.add("tab", first)
    live.remove("tab", second)
    assert live.is_answering("tab")
    live.stop("tab")
    assert not first.discarded
    live.discard("tab")
    assert first.discarded
    assert not live.is_answering("tab")
    live.discard("tab")
    second.stop()
    assert engine.stats().num_aborted == 2
    engine.close()

"""Probabilities of a text's tokens: the engine's own, the first one's absent, and the figures over them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import re
from collections.abc import AsyncGenerator
from html import unescape
from typing import Any

import pytest
from scripted_engine import END_OF_DOCUMENT, ScriptedEngine

from app.tokens.asking import score, write
from app.tokens.document import make_document
from app.tokens.scored_csv import scored_csv
from app.tokens.scored_text import ScoredText, ScoredToken, surprise
from app.tokens.tokenisation import tokenisation_csv, tokenisation_html, tokenise
from app.tokens.view import scored_html
from model.engine.engine import LocalEngine
from model.interface import ContextLengthExceeded, EngineError, SamplingParams, ScoreRequest


def last(updates: AsyncGenerator[str | ScoredText]) -> ScoredText:
    async def read() -> ScoredText:
        found = [update async for update in updates][-1]
        assert isinstance(found, ScoredText)
        return found

    return asyncio.run(read())


def token(logprob: float | None, data: bytes = b"ab", **changes: Any) -> ScoredToken:
    return ScoredToken(**({"part": "prompt", "token_id": 7, "data": data, "logprob": logprob} | changes))


def test_perplexity_is_over_the_tokens_that_have_a_probability() -> None:
    figures = surprise([token(None, b"first"), token(math.log(0.5)), token(math.log(0.125))])
    assert figures.num_tokens == 2
    assert figures.perplexity == pytest.approx(4)  # 2 ** ((1 + 3) / 2)
    assert figures.bits_per_byte == pytest.approx(1)  # 4 bits over 4 bytes


@pytest.mark.parametrize("tokens", [[], [token(None)]])
def test_the_perplexity_of_nothing_is_undefined(tokens: list[ScoredToken]) -> None:
    figures = surprise(tokens)
    assert (figures.num_tokens, figures.perplexity, figures.bits_per_byte) == (0, None, None)
    page = scored_html(ScoredText(model_name="m", tokens=tuple(tokens)), ScriptedEngine().tokenizer)
    assert "<td>0</td><td>–</td><td>–</td>" in page or not tokens


def test_an_impossible_token_is_infinitely_surprising() -> None:
    figures = surprise([token(-math.inf)])
    assert figures.perplexity == math.inf
    assert "infinite" in scored_html(ScoredText(model_name="m", tokens=(token(-math.inf),)), ScriptedEngine().tokenizer)


def test_what_the_model_wrote_scores_the_same_when_it_is_read(engine: LocalEngine) -> None:
    document = make_document(engine, "The quick brown", "", in_chat_format=False)
    written = last(
        write(engine, document, SamplingParams(max_tokens=6, temperature=0), num_top=3, stop=asyncio.Event())
    )
    whole = [one.token_id for one in written.tokens]
    assert [one.part for one in written.tokens] == ["prompt"] * len(document.token_ids) + ["answer"] * 6
    assert written.tokens[0].logprob is None
    (alone,) = engine.score(
        [ScoreRequest(context_token_ids=(whole[0],), continuation_token_ids=tuple(whole[1:]), top_logprobs=3)]
    )
    assert [one.logprob for one in written.tokens[1:]] == pytest.approx(alone.logprobs, abs=1e-4)
    assert all(one.rank == 1 for one in written.part("answer"))


def test_a_typed_text_has_the_scores_of_the_engine(engine: LocalEngine) -> None:
    document = make_document(engine, "The quick", " brown fox", in_chat_format=False)
    typed = last(score(engine, document, num_top=2, stop=asyncio.Event()))
    assert tuple(one.token_id for one in typed.tokens) == document.token_ids
    assert typed.tokens[0].logprob is None
    assert all(one.logprob is not None and one.logprob < 0 and len(one.top) == 2 for one in typed.tokens[1:])
    assert len(typed.part("answer")) == len(document.answer_token_ids) > 0
    completion = engine.generate([list(document.token_ids)], SamplingParams(max_tokens=1, prompt_logprobs=2))[0]
    assert [one.logprob for one in typed.tokens[1:]] == pytest.approx(
        [one.logprob for one in completion.prompt_logprobs], abs=1e-4
    )


def test_one_token_has_no_probability_and_asks_nothing() -> None:
    engine = ScriptedEngine()
    scored = last(score(engine, make_document(engine, "a", "", in_chat_format=False), num_top=5, stop=asyncio.Event()))
    assert [one.logprob for one in scored.tokens] == [None]
    assert engine.priorities == []
    engine.close()


def test_the_end_of_a_document_is_a_token_of_the_answer() -> None:
    engine = ScriptedEngine(lambda prompt: "x")
    scored = last(
        write(
            engine,
            make_document(engine, "ab", "", in_chat_format=False),
            SamplingParams(),
            num_top=1,
            stop=asyncio.Event(),
        )
    )
    assert [one.token_id for one in scored.part("answer")] == [ord("x"), END_OF_DOCUMENT]
    assert "ended by itself" in scored.written_by
    assert "end of document, 90 percent" in scored_html(scored, engine.tokenizer)
    engine.close()


def test_progress_is_said_and_leaving_ends_the_request() -> None:
    engine = ScriptedEngine(lambda prompt: "x" * 500, tokens_per_s=50)
    document = make_document(engine, "ab", "", in_chat_format=False)

    async def leave() -> str | ScoredText:
        updates = write(engine, document, SamplingParams(), num_top=0, stop=asyncio.Event())
        first = await anext(updates)
        await updates.aclose()
        return first

    assert str(asyncio.run(leave())).startswith(("Writing, ", "Reading the prompt"))
    engine.wait_for(lambda stats: stats.num_running == 0 and stats.num_aborted == 1, timeout=1)
    engine.close()


def test_what_was_written_until_the_stop_is_kept() -> None:
    engine = ScriptedEngine(lambda prompt: "x" * 500, tokens_per_s=100)
    document = make_document(engine, "ab", "", in_chat_format=False)

    async def stopped() -> str | ScoredText:
        stop = asyncio.Event()
        updates = []
        async for update in write(engine, document, SamplingParams(), num_top=0, stop=stop):
            updates.append(update)
            stop.set()
        return updates[-1]

    scored = asyncio.run(stopped())
    assert isinstance(scored, ScoredText)
    assert 1 <= len(scored.part("answer")) < 400
    assert scored.written_by.endswith("it was stopped")
    assert engine.stats().num_aborted == 1
    engine.close()


def test_failures_are_sentences() -> None:
    engine = ScriptedEngine(context_length=4, failure=lambda prompt: EngineError("it broke: try again"))
    long = make_document(engine, "abcdefgh", "", in_chat_format=False)
    with pytest.raises(ContextLengthExceeded):
        last(score(engine, long, num_top=0, stop=asyncio.Event()))
    with pytest.raises(EngineError, match="it broke"):
        last(
            write(
                engine,
                make_document(engine, "a", "", in_chat_format=False),
                SamplingParams(),
                num_top=0,
                stop=asyncio.Event(),
            )
        )
    engine.close()


def test_the_page_shows_every_number_as_text_and_nothing_as_markup() -> None:
    engine = ScriptedEngine()
    hostile = "<img src=x onerror=alert(1)>\n\n$$x$$"
    scored = last(
        score(engine, make_document(engine, hostile, "", in_chat_format=False), num_top=3, stop=asyncio.Event())
    )
    page = scored_html(scored, engine.tokenizer)
    assert "\n" not in page  # a blank line would end the HTML block in Markdown
    assert "<img" not in page
    tokens = [json.loads(unescape(one)) for one in re.findall(r'data-token="([^"]*)"', page)]
    assert [one["id"] for one in tokens] == list(hostile.encode())
    assert tokens[0]["logprob"] is None
    assert all(len(one["top"]) == 3 for one in tokens[1:])
    assert len(re.findall(r'<button[^>]* tabindex="0"', page)) == 1  # one of the tokens is in the tab order
    assert page.count("<small>–</small>") == 1
    engine.close()


def test_the_csv_file_has_what_the_page_has() -> None:
    engine = ScriptedEngine(lambda prompt: "=1")
    document = make_document(engine, "ab", "", in_chat_format=False)
    scored = last(write(engine, document, SamplingParams(), num_top=2, stop=asyncio.Event()))
    rows = list(csv.DictReader(io.StringIO(scored_csv(scored, engine.tokenizer), newline="")))
    assert [row["part"] for row in rows] == ["prompt"] * 2 + ["answer"] * 3
    assert rows[0]["logprob"] == rows[0]["probability"] == rows[0]["top_1_id"] == ""
    assert rows[2]["piece"] == "'="  # what a spreadsheet would run is a text
    assert float(rows[2]["probability"]) == pytest.approx(0.9)
    assert rows[2]["rank"] == "1"
    engine.close()


def test_the_tokenisation_of_two_models(engine: LocalEngine) -> None:
    scripted = ScriptedEngine(family="llama")
    text = "<b>é"
    both = [tokenise(one, one.tokenizer.encode_prompt(text)) for one in (engine, scripted)]
    assert all(b"".join(data for _, _, data in one.tokens).decode().lstrip() == text for one in both)
    page = tokenisation_html(both)
    assert "<b>" not in page
    assert "5 tokens" in page
    rows = list(csv.DictReader(io.StringIO(tokenisation_csv(both), newline="")))
    assert [row["bytes"] for row in rows if row["family"] == "llama"] == ["3c", "62", "3e", "c3", "a9"]
    scripted.close()

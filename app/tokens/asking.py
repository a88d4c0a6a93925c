"""One engine request that gives every token of a text its probability: the text as typed, or with an answer the model
writes.

Both are read for a fifth of a second at a time, so that a closed tab and a press of Stop are noticed, and end their
request when they are left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TypeAlias

from app.tokens.document import Document
from app.tokens.scored_text import ScoredText, from_completion, from_score
from model.interface import Completion, Engine, EngineError, SamplingParams, ScoreRequest, TokenScore

BETWEEN_UPDATES_S = 0.2

Progress: TypeAlias = str
"""What the model is doing, in words."""


async def score(
    engine: Engine, document: Document, *, num_top: int, stop: asyncio.Event
) -> AsyncGenerator[Progress | ScoredText]:
    """The text as it was typed: progress five times a second, and last the scored text, unless it was stopped.

    Args:
        num_top: most probable tokens wanted at each place, 0 to 20. stop: set from the event loop to end it.

    Raises:
        EngineError: the text is too long, or the request failed.
    """
    token_ids = document.token_ids
    found: TokenScore | None = None
    if len(token_ids) > 1:
        request = ScoreRequest(
            context_token_ids=token_ids[:1], continuation_token_ids=token_ids[1:], top_logprobs=num_top
        )
        started = time.perf_counter()
        task = asyncio.create_task(engine.ascore([request], priority="interactive"))
        try:
            while not (await asyncio.wait({task}, timeout=BETWEEN_UPDATES_S))[0]:
                if stop.is_set():
                    return
                yield f"Reading {len(token_ids):,} tokens, {time.perf_counter() - started:.1f} s{_queue(engine)}"
            (found,) = task.result()
        finally:
            task.cancel()
    yield ScoredText(
        model_name=engine.info.model_name,
        tokens=from_score(engine.tokenizer, document, found),
        joined=document.joined,
    )


async def write(
    engine: Engine, document: Document, params: SamplingParams, *, num_top: int, stop: asyncio.Event
) -> AsyncGenerator[Progress | ScoredText]:
    """The prompt, and the answer the model writes to it: progress five times a second, and last the scored text, with
    what was written until then if it was stopped after the first token.

    Args:
        document: its answer is not looked at.
        num_top: most probable tokens wanted at each place, 0 to 20. stop: set from the event loop to end it.

    Raises:
        EngineError: the prompt is too long, or the request failed.
    """
    params = replace(params, logprobs=num_top, prompt_logprobs=num_top)
    started = time.perf_counter()
    stream = engine.stream(document.prompt_token_ids, params)
    num_tokens = 0
    try:
        while True:
            read_until = time.perf_counter() + BETWEEN_UPDATES_S
            while (left := read_until - time.perf_counter()) > 0:
                chunk = await stream.anext_chunk(left)
                if chunk is None:
                    break
                num_tokens += len(chunk.token_ids)
                if chunk.completion is not None:
                    if len(chunk.completion.prompt_logprobs) < len(document.prompt_token_ids) - 1:
                        if stop.is_set():
                            return
                        raise EngineError("the request was ended before its prompt was read: start it again")
                    yield ScoredText(
                        model_name=engine.info.model_name,
                        tokens=from_completion(engine.tokenizer, document.prompt_token_ids, chunk.completion),
                        written_by=_how(params, chunk.completion),
                    )
                    return
            if stop.is_set():
                stream.abort()
                continue
            place = stream.place()
            if num_tokens:
                what = f"Writing, {num_tokens:,} tokens"
            else:
                what = "Reading the prompt" if place is None else f"Waiting, place {place:,} in the queue"
            yield f"{what}, {time.perf_counter() - started:.1f} s"
    finally:
        stream.abort()


def _queue(engine: Engine) -> str:
    num_waiting = engine.stats().num_waiting
    return f", {num_waiting:,} requests are waiting" if num_waiting else ""


def _how(params: SamplingParams, completion: Completion) -> str:
    settings = {
        "temperature": params.temperature,
        "top-p": params.top_p,
        "top-k": params.top_k,
        "min-p": params.min_p,
        "repetition penalty": params.repetition_penalty,
    }
    how = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    ends = {"stop": "it ended by itself or at a stop string", "length": "it was cut off", "abort": "it was stopped"}
    return f"{how}, seed {completion.seed}; {ends[completion.finish_reason]}"

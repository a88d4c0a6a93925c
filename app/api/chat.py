"""`POST /v1/chat/completions`: a conversation, answered or, if its last message is the assistant's, continued."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.body import checked, read_object
from app.api.errors import from_engine, refused
from app.api.logprobs import chat_logprobs
from app.api.prompts import PromptTokens, conversation, tokenized
from app.api.request_log import note
from app.api.running import for_client
from app.api.sampling import sampling_params
from app.api.schemas import ChatBody
from app.api.service import FINISH_REASONS, ServedModel, Service, priority_of, usage
from app.api.streaming import EventStream, merged
from app.api.unsupported import refuse_unsupported
from model.interface import Completion, EngineError, Priority, SamplingParams


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """A request that breaks no rule. `continues`: whether the answer goes on with a message that is begun."""

    prompt: PromptTokens
    params: list[SamplingParams]
    continues: bool
    with_logprobs: bool
    priority: Priority


async def chat_completions(service: Service, request: Request) -> Response:
    """The route."""
    try:
        return await _respond(service, request)
    except EngineError as error:
        raise from_engine(error, prompt_name="messages") from error


async def _respond(service: Service, request: Request) -> Response:
    content = await read_object(request, service.options)
    model = service.open_model(content)
    body = checked(ChatBody, content)
    refuse_unsupported(content)
    engine = model.engine
    max_tokens = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if max_tokens is not None and max_tokens < 1:
        name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        raise refused(name, max_tokens, "a whole number of at least 1")
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("top_logprobs", body.top_logprobs, "left out unless logprobs is true")
    num_top = (body.top_logprobs or 0) if body.logprobs else None
    if num_top is not None and not 0 <= num_top <= 20:
        raise refused("top_logprobs", num_top, "a whole number from 0 to 20")
    params = sampling_params(body, max_tokens=max_tokens, logprobs=num_top, format_stop=engine.chat_template.stop)
    messages = conversation(body.messages)
    wanted = _Wanted(
        prompt=await tokenized(engine, engine.chat_template.render(messages)),
        params=params,
        continues=bool(messages) and messages[-1].role == "assistant",
        with_logprobs=num_top is not None,
        priority=priority_of(request, body.priority),
    )
    num_tokens = len(wanted.prompt.token_ids)
    note(request.scope, messages=len(messages), n=len(params), prompt_tokens=num_tokens, stream=bool(body.stream))
    ticket = model.gate.admit(len(params))
    if body.stream:
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStream(
            _events(model, wanted, with_usage=with_usage),
            ticket=ticket,
            timeout_s=service.options.request_timeout_s,
            prompt_name="messages",
        )
    with ticket:
        finished = await for_client(
            request.receive,
            engine.agenerate([wanted.prompt.token_ids] * len(params), params, priority=wanted.priority),
            timeout_s=service.options.request_timeout_s,
        )
    found = usage([num_tokens], finished, n=len(params))
    note(request.scope, completion_tokens=found["completion_tokens"])
    reply = model.envelope("chatcmpl", "chat.completion")
    choices = [_choice(model, wanted, index, completion) for index, completion in enumerate(finished)]
    return JSONResponse(reply | {"choices": choices, "usage": found})


def _choice(model: ServedModel, wanted: _Wanted, index: int, completion: Completion) -> dict[str, Any]:
    blanks = OuterBlanks(keeps_first=wanted.continues)
    return {
        "index": index,
        "message": {"role": "assistant", "content": blanks.push(completion.text), "refusal": None},
        "logprobs": chat_logprobs(model.engine.tokenizer, completion.logprobs) if wanted.with_logprobs else None,
        "finish_reason": FINISH_REASONS[completion.finish_reason],
        "stop_reason": completion.stop_reason,
    }


class OuterBlanks:
    """Drops the blanks around an answer while it comes, as the chat formats do with a whole one.

    Args:
        keeps_first: whether the answer goes on with something, so that the blanks before it count.
    """

    def __init__(self, *, keeps_first: bool) -> None:
        self._began = keeps_first
        self._held = ""

    def push(self, text: str) -> str:
        """What can be shown now."""
        text = self._held + text
        if not self._began:
            text = text.lstrip()
        shown = text.rstrip()
        self._held = text[len(shown) :]
        self._began = self._began or bool(shown)
        return shown


async def _events(model: ServedModel, wanted: _Wanted, *, with_usage: bool) -> AsyncGenerator[dict[str, Any], None]:
    """What a stream sends: a role for every choice, their words, their ends, then the usage if wanted."""
    engine = model.engine
    envelope = model.envelope("chatcmpl", "chat.completion.chunk") | ({"usage": None} if with_usage else {})
    num_choices = len(wanted.params)
    blanks = [OuterBlanks(keeps_first=wanted.continues) for _ in range(num_choices)]
    finished: list[Completion | None] = [None] * num_choices
    began = False
    chunks = merged(engine.streams(wanted.prompt.token_ids, wanted.params, priority=wanted.priority))
    try:
        async for index, chunk in chunks:
            if not began:  # only now is it known that the engine answers
                began = True
                for place in range(num_choices):
                    yield envelope | {"choices": [_piece(place, {"role": "assistant", "content": ""})]}
            text = blanks[index].push(chunk.text)
            logprobs = chat_logprobs(engine.tokenizer, chunk.logprobs) if wanted.with_logprobs else None
            if text or (logprobs and logprobs["content"]):
                yield envelope | {"choices": [_piece(index, {"content": text}, logprobs=logprobs)]}
            if chunk.completion is not None:
                finished[index] = chunk.completion
                reason = FINISH_REASONS[chunk.completion.finish_reason]
                yield envelope | {"choices": [_piece(index, {}, finish_reason=reason)]}
    finally:
        await chunks.aclose()
    if with_usage:
        done = [one for one in finished if one is not None]
        yield envelope | {"choices": [], "usage": usage([len(wanted.prompt.token_ids)], done, n=num_choices)}


def _piece(
    index: int,
    delta: dict[str, Any],
    *,
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}

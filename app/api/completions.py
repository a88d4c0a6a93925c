"""`POST /v1/completions`: texts or token ids, continued."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.body import checked, read_object
from app.api.errors import refused
from app.api.logprobs import TextOffsets, completion_logprobs, echo_of
from app.api.prompts import PromptTokens, prompts_of
from app.api.request_log import note
from app.api.running import for_client
from app.api.sampling import sampling_params
from app.api.schemas import CompletionBody
from app.api.service import FINISH_REASONS, ServedModel, Service, priority_of, usage
from app.api.streaming import EventStream, merged
from app.api.unsupported import refuse_unsupported
from model.interface import (
    Completion,
    CompletionStream,
    ContextLengthExceeded,
    Priority,
    SamplingParams,
    ScoreRequest,
    Timing,
    TokenLogprob,
)

DEFAULT_MAX_TOKENS = 16  # OpenAI's


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """A request that breaks no rule. Choice `k` of prompt `p` has the place `p * n + k`.

    Attributes:
        params: of the choices of each prompt; `None` where nothing is to be generated.
        num_top: most probable tokens wanted, `None` for no log-probabilities.
    """

    prompts: list[PromptTokens]
    params: list[SamplingParams] | None
    n: int
    echo: bool
    num_top: int | None
    priority: Priority


async def completions(service: Service, request: Request) -> Response:
    """The route."""
    content = await read_object(request, service.options)
    model = service.open_model(content)
    body = checked(CompletionBody, content)
    refuse_unsupported(content)
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    params = sampling_params(body, max_tokens=max_tokens or 1, logprobs=body.logprobs)
    if content.get("best_of") not in (None, len(params)):
        raise refused("best_of", content["best_of"], f"n ({len(params)}) or left out: only what is returned is written")
    wanted = _Wanted(
        prompts=await prompts_of(model.engine, body.prompt),
        params=params if max_tokens else None,
        n=len(params),
        echo=bool(body.echo),
        num_top=body.logprobs,
        priority=priority_of(request, body.priority),
    )
    lengths = [len(prompt.token_ids) for prompt in wanted.prompts]
    note(request.scope, prompts=len(lengths), n=wanted.n, prompt_tokens=sum(lengths), stream=bool(body.stream))
    ticket = model.gate.admit(len(wanted.prompts) * wanted.n)
    if body.stream:
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStream(
            _events(model, wanted, with_usage=with_usage),
            ticket=ticket,
            timeout_s=service.options.request_timeout_s,
        )
    with ticket:
        finished = await for_client(
            request.receive, _generate(model, wanted), timeout_s=service.options.request_timeout_s
        )
    found = usage(lengths, finished, n=wanted.n)
    note(request.scope, completion_tokens=found["completion_tokens"])
    reply = model.envelope("cmpl", "text_completion")
    return JSONResponse(reply | {"choices": _choices(model, wanted, finished), "usage": found})


async def _generate(model: ServedModel, wanted: _Wanted) -> list[Completion]:
    """The completions of all choices, in order."""
    scores_prompts = wanted.echo and wanted.num_top is not None
    if wanted.params is None:
        tops = await _prompt_logprobs(model, wanted) if scores_prompts else [()] * len(wanted.prompts)
        return [
            _nothing(prompt, top) for prompt, top in zip(wanted.prompts, tops, strict=True) for _ in range(wanted.n)
        ]
    prompts: list[list[int]] = []
    params: list[SamplingParams] = []
    for prompt in wanted.prompts:
        for place, one in enumerate(wanted.params):
            prompts.append(prompt.token_ids)
            # One choice is enough to score the prompt all of them share.
            params.append(replace(one, prompt_logprobs=wanted.num_top) if scores_prompts and place == 0 else one)
    return await model.engine.agenerate(prompts, params, priority=wanted.priority)


async def _prompt_logprobs(model: ServedModel, wanted: _Wanted) -> list[tuple[TokenLogprob, ...]]:
    """Of every prompt's tokens from the second on."""
    engine, num_top = model.engine, wanted.num_top or 0
    longest = engine.info.context_length
    for prompt in wanted.prompts:
        if len(prompt.token_ids) > longest:
            raise ContextLengthExceeded(len(prompt.token_ids), longest)
    scored = [prompt for prompt in wanted.prompts if len(prompt.token_ids) > 1]
    requests = [
        ScoreRequest(
            context_token_ids=tuple(prompt.token_ids[:1]),
            continuation_token_ids=tuple(prompt.token_ids[1:]),
            top_logprobs=num_top,
        )
        for prompt in scored
    ]
    scores = iter(await engine.ascore(requests, priority=wanted.priority) if requests else [])
    results: list[tuple[TokenLogprob, ...]] = []
    for prompt in wanted.prompts:
        if len(prompt.token_ids) == 1:
            results.append(())
            continue
        score = next(scores)
        tops = score.top or ((),) * len(score.token_ids)
        results.append(
            tuple(
                TokenLogprob(token_id=token, logprob=logprob, top=top)
                for token, logprob, top in zip(score.token_ids, score.logprobs, tops, strict=True)
            )
        )
    return results


def _nothing(prompt: PromptTokens, prompt_logprobs: tuple[TokenLogprob, ...]) -> Completion:
    """The completion of no tokens."""
    return Completion(
        text="",
        token_ids=(),
        finish_reason="length",
        stop_reason=None,
        num_prompt_tokens=len(prompt.token_ids),
        seed=0,
        timing=Timing(queued_s=0.0, ttft_s=None, total_s=0.0),
        prompt_logprobs=prompt_logprobs,
    )


def _choices(model: ServedModel, wanted: _Wanted, finished: Sequence[Completion]) -> list[dict[str, Any]]:
    tokenizer = model.engine.tokenizer
    choices = []
    for index, completion in enumerate(finished):
        prompt = wanted.prompts[index // wanted.n]
        text, token_ids, logprobs, offsets = "", [], [], []  # type: ignore[var-annotated]
        if wanted.echo:
            text, offsets = echo_of(tokenizer, prompt.token_ids, prompt.text)
            token_ids = list(prompt.token_ids)
            scored = finished[index - index % wanted.n].prompt_logprobs
            logprobs = [None, *scored]
        whole = text + completion.text
        choice: dict[str, Any] = {
            "index": index,
            "text": whole,
            "logprobs": None,
            "finish_reason": FINISH_REASONS[completion.finish_reason],
            "stop_reason": completion.stop_reason,
        }
        if wanted.num_top is not None:
            answer = list(completion.token_ids)
            after = TextOffsets(tokenizer, start=len(text)).take(answer)
            choice["logprobs"] = completion_logprobs(
                tokenizer,
                token_ids + answer,
                [*logprobs, *completion.logprobs],
                [min(offset, len(whole)) for offset in [*offsets, *after]],
            )
        choices.append(choice)
    return choices


async def _events(model: ServedModel, wanted: _Wanted, *, with_usage: bool) -> AsyncGenerator[dict[str, Any], None]:
    """What a stream sends. The prompt to echo comes first, in one event with its log-probabilities."""
    engine, tokenizer = model.engine, model.engine.tokenizer
    envelope = model.envelope("cmpl", "text_completion") | ({"usage": None} if with_usage else {})
    num_choices = len(wanted.prompts) * wanted.n
    offsets = [TextOffsets(tokenizer) for _ in range(num_choices)]
    if wanted.echo:
        scored: list[tuple[TokenLogprob, ...]] = [()] * len(wanted.prompts)
        if wanted.num_top is not None:
            scored = await _prompt_logprobs(model, wanted)
        for index in range(num_choices):
            prompt = wanted.prompts[index // wanted.n]
            text, places = echo_of(tokenizer, prompt.token_ids, prompt.text)
            offsets[index] = TextOffsets(tokenizer, start=len(text))
            logprobs = None
            if wanted.num_top is not None:
                known = [None, *scored[index // wanted.n]]
                logprobs = completion_logprobs(tokenizer, prompt.token_ids, known, places)
            yield envelope | {"choices": [_piece(index, text, logprobs, None)]}
    finished: list[Completion | None] = [None] * num_choices
    if wanted.params is None:
        for index in range(num_choices):
            finished[index] = _nothing(wanted.prompts[index // wanted.n], ())
            yield envelope | {"choices": [_piece(index, "", None, "length")]}
    else:
        streams: list[CompletionStream] = []
        try:
            for prompt in wanted.prompts:
                streams += engine.streams(prompt.token_ids, wanted.params, priority=wanted.priority)
        except BaseException:
            for stream in streams:
                stream.abort()
            raise
        chunks = merged(streams)
        try:
            async for index, chunk in chunks:
                logprobs = None
                if wanted.num_top is not None and chunk.token_ids:
                    places = offsets[index].take(chunk.token_ids)
                    logprobs = completion_logprobs(tokenizer, chunk.token_ids, chunk.logprobs, places)
                reason = None
                if chunk.completion is not None:
                    finished[index] = chunk.completion
                    reason = FINISH_REASONS[chunk.completion.finish_reason]
                if chunk.text or logprobs or reason:
                    yield envelope | {"choices": [_piece(index, chunk.text, logprobs, reason)]}
        finally:
            await chunks.aclose()
    if with_usage:
        lengths = [len(prompt.token_ids) for prompt in wanted.prompts]
        found = usage(lengths, [one for one in finished if one is not None], n=wanted.n)
        yield envelope | {"choices": [], "usage": found}


def _piece(index: int, text: str, logprobs: dict[str, Any] | None, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}

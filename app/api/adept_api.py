"""`PUT /api`, the protocol of Adept's own server, so that its clients keep working.

Field names, defaults, rules and the reply follow persimmon-ai-labs/adept-inference,
megatron/text_generation_server.py and megatron/text_generation/{api,generation,tokenization}.py. What differs: errors
have an HTTP status and OpenAI's shape; every answer ends at its own end of document, where Adept's went on to the
longest one's; the end of a document is not spelt out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.body import checked, read_object
from app.api.errors import ApiError, refused
from app.api.logprobs import echo_of, finite
from app.api.request_log import note
from app.api.running import for_client
from app.api.schemas import AdeptBody
from app.api.service import Service
from model.interface import (
    MAX_SEED,
    Completion,
    ContextLengthExceeded,
    Engine,
    SamplingParams,
    ScoreRequest,
    Tokenizer,
)

MAX_PROMPTS = 128
MAX_TOP_K = 1000
_RENAMED = {
    "max_len": "max_len is no longer used: replace it with tokens_to_generate",
    "sentences": "sentences is no longer used: replace it with prompts",
}


async def generate(service: Service, request: Request) -> Response:
    """The route."""
    content = await read_object(request, service.options)
    model = service.open_model(content)
    if "prompts" not in content:
        raise ApiError(400, "prompts is missing: give a list of strings", param="prompts")
    for name, sentence in _RENAMED.items():
        if name in content:
            raise ApiError(400, sentence, param=name)
    body = checked(AdeptBody, content)
    prompts = [body.prompts] if isinstance(body.prompts, str) else body.prompts
    _check(body, prompts)
    tokenizer = model.engine.tokenizer
    # Adept's begins documents with the token that ends them.
    begin = list(tokenizer.eos_token_ids[:1]) if body.add_BOS else []
    token_ids = [begin + one for one in await asyncio.to_thread(lambda: list(map(tokenizer.encode, prompts)))]
    if not all(token_ids):
        raise ApiError(400, "prompts holds an empty one: empty prompts require add_BOS=true", param="prompts")
    lengths = [len(one) for one in token_ids]
    note(request.scope, prompts=len(prompts), prompt_tokens=sum(lengths))
    work = _score(model.engine, token_ids) if body.tokens_to_generate == 0 else _complete(model.engine, body, token_ids)
    try:
        ticket = model.gate.admit(len(prompts))
    except ApiError:
        work.close()
        raise
    with ticket:
        reply = await for_client(request.receive, work, timeout_s=service.options.request_timeout_s)
    return JSONResponse(reply)


async def healthz(service: Service, request: Request) -> Response:
    """Adept's health check."""
    return JSONResponse({"success": True})


def _check(body: AdeptBody, prompts: list[str]) -> None:
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise ApiError(400, f"prompts holds {len(prompts)}: give 1 to {MAX_PROMPTS}", param="prompts")
    if body.tokens_to_generate < 0:
        raise refused("tokens_to_generate", body.tokens_to_generate, "an integer greater than or equal to 0")
    if body.tokens_to_generate == 0 and not body.logprobs:
        raise refused("logprobs", False, "true where tokens_to_generate is 0")
    if not 0.0 < body.temperature <= 100.0:
        raise refused("temperature", body.temperature, "a positive number less than or equal to 100.0")
    if not 0 <= body.top_k <= MAX_TOP_K:
        raise refused("top_k", body.top_k, f"an integer from 0 to {MAX_TOP_K}")
    if not 0 <= body.top_p <= 1.0:
        raise refused("top_p", body.top_p, "a number from 0 to 1.0")
    if body.top_p > 0 and body.top_k > 0:
        raise refused("top_p", body.top_p, "0 where top_k is set: cannot set both")
    if body.random_seed is not None and not 0 <= body.random_seed <= MAX_SEED:
        raise refused("random_seed", body.random_seed, "a positive integer")


async def _complete(engine: Engine, body: AdeptBody, token_ids: list[list[int]]) -> dict[str, Any]:
    params = [
        SamplingParams(
            max_tokens=body.tokens_to_generate,
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p or 1.0,
            logprobs=0 if body.logprobs else None,
            prompt_logprobs=0 if body.logprobs else None,
            seed=None if body.random_seed is None else (body.random_seed + place) % (MAX_SEED + 1),
        )
        for place in range(len(token_ids))
    ]
    finished: list[Completion] = await engine.agenerate(token_ids, params)
    tokenizer = engine.tokenizer
    logprobs = [
        [finite(one.logprob) for one in (*completion.prompt_logprobs, *completion.logprobs)] for completion in finished
    ]
    return {
        "text": [
            echo_of(tokenizer, prompt, None)[0] + completion.text
            for prompt, completion in zip(token_ids, finished, strict=True)
        ],
        "logprobs": logprobs if body.logprobs else None,
        "generations": [completion.text for completion in finished],
        "human_readable_tokens": [_readable(tokenizer, completion.text) for completion in finished],
    }


async def _score(engine: Engine, token_ids: list[list[int]]) -> dict[str, Any]:
    longest = engine.info.context_length
    for prompt in token_ids:
        if len(prompt) > longest:
            raise ContextLengthExceeded(len(prompt), longest)
    requests = [
        ScoreRequest(context_token_ids=tuple(prompt[:1]), continuation_token_ids=tuple(prompt[1:]))
        for prompt in token_ids
        if len(prompt) > 1
    ]
    scores = iter(await engine.ascore(requests, priority="interactive") if requests else [])
    return {
        "text": [echo_of(engine.tokenizer, prompt, None)[0] for prompt in token_ids],
        "logprobs": [
            [finite(logprob) for logprob in next(scores).logprobs] if len(prompt) > 1 else [] for prompt in token_ids
        ],
        "generations": [],
        "human_readable_tokens": [],
    }


def _readable(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a generation as text; the first without its blank, a piece of a character as `<0xE2>`."""
    pieces = []
    for place, token in enumerate(tokenizer.encode(text)):
        data = tokenizer.token_bytes(token)
        try:
            piece = data.decode()
        except UnicodeDecodeError:
            piece = "".join(f"<0x{byte:02X}>" for byte in data)
        pieces.append(piece.removeprefix(" ") if place == 0 else piece)
    return pieces

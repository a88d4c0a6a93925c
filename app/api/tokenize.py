"""`POST /tokenize` and `/detokenize`: text to the model's token ids and back (the shapes are vLLM's)."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.body import checked, read_object
from app.api.errors import ApiError
from app.api.prompts import check_token_ids, conversation
from app.api.schemas import DetokenizeBody, TokenizeBody
from app.api.service import Service


async def tokenize(service: Service, request: Request) -> Response:
    """Token ids of a text, or of a conversation in the model's format. A text gets what documents begin with, unless
    `add_special_tokens` is false."""
    body = checked(TokenizeBody, await read_object(request, service.options))
    engine = service.model(body.model).engine
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "a text or a conversation is split: give either prompt or messages", param="prompt")
    turns = body.messages
    text = (body.prompt or "") if turns is None else engine.chat_template.render(conversation(turns))
    tokenizer = engine.tokenizer
    encode = tokenizer.encode if body.add_special_tokens is False else tokenizer.encode_prompt
    tokens = await asyncio.to_thread(encode, text)
    return JSONResponse({"count": len(tokens), "max_model_len": engine.info.context_length, "tokens": tokens})


async def detokenize(service: Service, request: Request) -> Response:
    """The text of token ids, as a whole document."""
    body = checked(DetokenizeBody, await read_object(request, service.options))
    engine = service.model(body.model).engine
    check_token_ids(engine, body.tokens, "tokens")
    return JSONResponse({"prompt": await asyncio.to_thread(engine.tokenizer.decode, body.tokens)})

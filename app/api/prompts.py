"""What a client sent to be continued, as token ids with the text they stand for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.api.errors import ApiError
from app.api.schemas import Message, Prompt
from model.interface import ChatMessage, Engine, InvalidRequest

LONG_TEXT = 4000  # characters; splitting more into tokens would hold up the other clients' streams


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """One prompt; `text` is `None` if it came as token ids."""

    token_ids: list[int]
    text: str | None


async def tokenized(engine: Engine, text: str) -> PromptTokens:
    """A text as the beginning of a document."""
    encode = engine.tokenizer.encode_prompt
    token_ids = encode(text) if len(text) <= LONG_TEXT else await asyncio.to_thread(encode, text)
    return PromptTokens(token_ids, text)


async def prompts_of(engine: Engine, prompt: Prompt) -> list[PromptTokens]:
    """Every prompt of a completions request.

    Raises:
        ApiError: there is none, or an empty one, or an id the model has not.
    """
    if isinstance(prompt, str):
        found = [await tokenized(engine, prompt)]
    elif prompt and isinstance(prompt[0], int):
        found = [PromptTokens([int(token) for token in prompt if isinstance(token, int)], None)]
    else:
        found = [
            await tokenized(engine, one) if isinstance(one, str) else PromptTokens(list(one), None)
            for one in prompt
            if not isinstance(one, int)
        ]
    if not found or not all(one.token_ids for one in found):
        raise ApiError(400, "prompt is empty: give at least one token to continue", param="prompt")
    for one in found:
        if one.text is None:
            check_token_ids(engine, one.token_ids, "prompt")
    return found


def check_token_ids(engine: Engine, token_ids: Sequence[int], name: str) -> None:
    """Raise ApiError if an id is none of the model's."""
    size = engine.info.vocab_size
    for token in token_ids:
        if not 0 <= token < size:
            raise ApiError(400, f"{name} holds the token id {token}: this model's are 0 to {size - 1}", param=name)


def conversation(messages: Sequence[Message]) -> list[ChatMessage]:
    """Messages as the chat format takes them: what the system says first becomes the text before everything.

    Raises:
        InvalidRequest: a system message comes later.
    """
    texts = [
        message.content if isinstance(message.content, str) else "".join(part.text for part in message.content)
        for message in messages
    ]
    roles = ["prefix" if message.role in ("system", "developer") else message.role for message in messages]
    first = next((place for place, role in enumerate(roles) if role != "prefix"), len(roles))
    if "prefix" in roles[first:]:
        place = roles.index("prefix", first)
        raise InvalidRequest(
            f"message {place + 1} is from {messages[place].role!r}: this model's format has no such turn, so put "
            "what it says into the first message"
        )
    prefix = "\n\n".join(text for text in texts[:first] if text.strip())
    turns = [
        ChatMessage("user" if role == "user" else "assistant", text)
        for role, text in zip(roles[first:], texts[first:], strict=True)
    ]
    return [ChatMessage("prefix", prefix), *turns] if prefix else turns

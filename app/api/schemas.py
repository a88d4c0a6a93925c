"""What clients may send. A field's description is its rule, as error sentences end: "... must be <description>".

Types are strict: a number in quotes is no number. Fields that are not here are ignored, but for those of
`app.api.unsupported`, which would change the answer.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

TEXT_OR_TOKENS = "a string, a list of strings, a list of token ids, or a list of lists of token ids"

Prompt: TypeAlias = str | list[int] | list[str] | list[list[int]]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class StreamOptions(_Body):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None


class SamplingBody(_Body):
    """What completions and chat have in common. top_k, min_p, repetition_penalty, stop_token_ids, ignore_eos and
    priority are no fields of OpenAI's."""

    model: str | None = Field(None, description="a string, the name of the model")
    max_tokens: int | None = Field(None, description="a whole number")
    temperature: float | None = Field(None, description="a number from 0 to 100")
    top_p: float | None = Field(None, description="a number from 0 to 1")
    top_k: int | None = Field(None, description="a whole number, 0 or -1 for no limit")
    min_p: float | None = Field(None, description="a number from 0 to 1")
    repetition_penalty: float | None = Field(None, description="a number above 0 and at most 100")
    presence_penalty: float | None = Field(None, description="a number from -2 to 2")
    frequency_penalty: float | None = Field(None, description="a number from -2 to 2")
    logit_bias: dict[str, float] | None = Field(
        None, description="an object from token ids (as strings) to numbers from -100 to 100"
    )
    n: int | None = Field(None, description="a whole number of at least 1")
    seed: int | None = Field(None, description="a whole number of 64 bits")
    stop: str | list[str] | None = Field(None, description="a string or a list of at most 16 strings")
    stop_token_ids: list[int] | None = Field(None, description="a list of token ids")
    ignore_eos: bool | None = Field(None, description="true or false")
    stream: bool | None = Field(None, description="true or false")
    stream_options: StreamOptions | None = Field(None, description="an object such as {'include_usage': true}")
    priority: Literal["interactive", "batch"] | None = Field(None, description="'interactive' or 'batch'")


class CompletionBody(SamplingBody):
    """`POST /v1/completions`."""

    prompt: Prompt = Field(description=TEXT_OR_TOKENS)
    echo: bool | None = Field(None, description="true or false")
    logprobs: int | None = Field(None, description="a whole number from 0 to 20")


class TextPart(_Body):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class Message(_Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


class ChatBody(SamplingBody):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)] = Field(
        description="a list of messages, each with a role (system, developer, user or assistant) and text as content"
    )
    max_completion_tokens: int | None = Field(None, description="a whole number")
    logprobs: bool | None = Field(None, description="true or false")
    top_logprobs: int | None = Field(None, description="a whole number from 0 to 20")


class TokenizeBody(_Body):
    """`POST /tokenize`: a text, or a conversation as the model would read it."""

    model: str | None = Field(None, description="a string, the name of the model")
    prompt: str | None = Field(None, description="a string")
    messages: list[Message] | None = Field(None, description="a list of messages, as for chat")
    add_special_tokens: bool | None = Field(None, description="true or false")


class DetokenizeBody(_Body):
    """`POST /detokenize`."""

    model: str | None = Field(None, description="a string, the name of the model")
    tokens: list[int] = Field(description="a list of token ids")


class AdeptBody(_Body):
    """`PUT /api`, as adept-inference's server had it (persimmon-ai-labs/adept-inference,
    megatron/text_generation_server.py), and which model, of which that server had one."""

    model: str | None = Field(None, description="a string, the name of the model")
    prompts: str | list[str] = Field(description="a list of strings")
    tokens_to_generate: int = Field(64, description="an integer greater than or equal to 0")
    logprobs: bool = Field(False, description="a boolean value")
    temperature: float = Field(1.0, description="a positive number less than or equal to 100.0")
    top_k: int = Field(0, description="an integer from 0 to 1000")
    top_p: float = Field(0.0, description="a number from 0 to 1.0")
    add_BOS: bool = Field(False, description="a boolean value")
    random_seed: int | None = Field(None, description="a positive integer")
    no_log: bool = Field(False, description="a boolean value")

"""What `app` and `evals` may know of a tokenizer and of a chat format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; no BOS or EOS is added."""
        ...

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of `text` at the beginning of a document: with the BOS where the family's prompts have one (Llama's do,
        Persimmon's and MPT's do not), unless `text` itself begins with it."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a whole document; special tokens give nothing and a leading dummy space is dropped."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes one id stands for inside a text; special tokens give b""."""
        ...


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. `prefix` is text before the whole conversation (these models have no system role)."""

    role: Literal["prefix", "user", "assistant"]
    content: str


class ChatTemplate(Protocol):
    """How a checkpoint's family writes a conversation as one prompt."""

    @property
    def name(self) -> str: ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which a client must cut, beside the end-of-document token."""
        ...

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt up to where the next answer begins; if the last message is the assistant's, up to its end, so
        that it is continued.

        Raises:
            InvalidRequest: no user message, or turns out of order.
        """
        ...

    def answer(self, text: str) -> str:
        """A completion's text as it should be shown and put back into the history (outer blanks dropped)."""
        ...

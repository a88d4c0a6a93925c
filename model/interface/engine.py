"""The verbs of an engine, as a protocol: `model.engine` implements it, a test may script one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias

from model.interface.classification import ClassificationHead
from model.interface.completion import Completion, StreamChunk
from model.interface.info import EngineInfo, EngineStats
from model.interface.prompt import Prompt
from model.interface.sampling_params import SamplingParams
from model.interface.score import ScoreRequest, TokenScore
from model.interface.text import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Priority: TypeAlias = Literal["interactive", "batch"]
"""A person waits for `interactive` requests; `batch` ones step back for them, but never for ever."""


class CompletionStream(Protocol):
    """A running request. Iterate it (`for` or `async for`), or poll it with a timeout; leaving its context, or
    `abort()`, ends the request and frees what it holds. Errors of the request are raised from the read."""

    def next_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        """The next chunk, waiting at most `timeout` seconds; `None` if none came in time.

        Raises:
            StopIteration: the stream has ended.
            EngineError: the request failed.
        """
        ...

    async def anext_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        """As :meth:`next_chunk`, without blocking the event loop; raises StopAsyncIteration at the end."""
        ...

    def place(self) -> int | None:
        """Its place in the queue, 1 for the next to run; `None` once it runs, has ended, or is not in the queue yet."""
        ...

    def abort(self) -> None:
        """End the request now; safe to call twice, after the end, or from any thread."""
        ...

    def __iter__(self) -> Iterator[StreamChunk]: ...

    def __aiter__(self) -> AsyncIterator[StreamChunk]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """A loaded model that takes requests from any thread or event loop.

    All methods raise InvalidRequest (bad values, prompt too long) before anything is queued, and EngineClosed after
    `close`.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def chat_template(self) -> ChatTemplate: ...

    @property
    def heads(self) -> Mapping[str, ClassificationHead]:
        """Classification heads by name, as they are now: the checkpoint's own first, then those attached."""
        ...

    def stats(self) -> EngineStats: ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        """Continue all prompts, batched; results in the order of the prompts. A prompt of eight tokens or more that is
        there several times is computed once and then forked, but for an :class:`EmbeddedPrompt`, one whose own
        log-probabilities are wanted, and models whose keys depend on the prompt's length (dynamic rope)."""
        ...

    async def agenerate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        """As :meth:`generate`; cancelling it aborts its requests."""
        ...

    def stream(self, prompt: Prompt, params: SamplingParams, *, priority: Priority = "interactive") -> CompletionStream:
        """Start one request and read it as it grows, from a thread or an event loop."""
        ...

    def streams(
        self, prompt: Prompt, params: Sequence[SamplingParams], *, priority: Priority = "interactive"
    ) -> Sequence[CompletionStream]:
        """Several answers to one prompt, computed once where :meth:`generate` does, each to be read as it grows."""
        ...

    def score(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        """Log-probability and is-greedy flag of every continuation token; results in order."""
        ...

    async def ascore(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        """As :meth:`score`; cancelling it aborts its requests."""
        ...

    def hidden_states(self, prompts: Sequence[Prompt], *, priority: Priority = "batch") -> list[NDArray[np.float32]]:
        """The last token's hidden state after the final norm, [hidden_size], of each prompt: what a classification head
        reads."""
        ...

    async def ahidden_states(
        self, prompts: Sequence[Prompt], *, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        """As :meth:`hidden_states`; cancelling it aborts its requests."""
        ...

    def classify(
        self, prompts: Sequence[Prompt], *, head: str | None = None, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        """A head's logits, [num_labels], of each prompt: at its last token that is no padding (the checkpoint's
        `pad_token_id`; without one, and for an :class:`EmbeddedPrompt`, simply the last), as Hugging Face's
        `...ForSequenceClassification`. `ClassificationHead.scores` says what they mean.

        Args:
            head: a name in :attr:`heads`; `None` for the checkpoint's own, or the only one.

        Raises:
            InvalidRequest: no such head, or none is chosen where there are several.
        """
        ...

    async def aclassify(
        self, prompts: Sequence[Prompt], *, head: str | None = None, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        """As :meth:`classify`; cancelling it aborts its requests."""
        ...

    def attach_head(self, folder: str | Path) -> ClassificationHead:
        """Take up the head in a folder that `python -m model.finetune classify` wrote, in place of one with its name.

        Raises:
            EngineError: the folder holds no head, a damaged one, or one that was trained on other weights than these.
            InvalidRequest: its name is that of the checkpoint's own head.
        """
        ...

    def close(self) -> None:
        """Abort what runs, stop the loop, free the memory; safe to call twice."""
        ...

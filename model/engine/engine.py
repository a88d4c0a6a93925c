"""The engine behind `model.interface.Engine`: one thread steps the core, callers talk to it through a queue."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from model.engine.core import EngineCore
from model.engine.heads import Heads
from model.engine.request import Deliver, Event, Request, Vectors
from model.engine.stream import RequestStream
from model.engine.trunks import with_trunks
from model.interface import (
    ChatTemplate,
    ClassificationHead,
    Completion,
    ContextLengthExceeded,
    EmbeddedPrompt,
    EngineClosed,
    EngineInfo,
    EngineStats,
    InvalidRequest,
    Priority,
    Prompt,
    SamplingParams,
    ScoreRequest,
    StreamChunk,
    Tokenizer,
    TokenScore,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class LocalEngine:
    """A model in this process; implements `model.interface.Engine`.

    Args:
        core: must not be used by anybody else.
        max_request_tokens: most tokens one request may hold, prompt and answer: the context length, or what the KV
            cache holds if that is less.
        hidden_size: of the model.
        heads: classification heads on its hidden states.
        pad_token_id: the token that does not count as the last of a prompt to classify.
    """

    def __init__(
        self,
        core: EngineCore,
        *,
        info: EngineInfo,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate,
        max_request_tokens: int,
        hidden_size: int,
        heads: Heads,
        pad_token_id: int | None = None,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self._core = core
        self._max_request_tokens = max_request_tokens
        self._hidden_size = hidden_size
        self._heads = heads
        self._pad_token_id = pad_token_id
        self._limit_reason = (
            "the context length" if max_request_tokens == info.context_length else "the KV cache's memory"
        )
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ids = itertools.count()
        self._closed = threading.Event()
        self._submission = threading.Lock()  # a request is queued before the end mark or refused
        self._stats = core.stats()
        self._step_began_s: float | None = None
        self._live_rows = core.runner.live_rows
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    @property
    def heads(self) -> Mapping[str, ClassificationHead]:
        return self._heads.infos

    def stats(self) -> EngineStats:
        began = self._step_began_s
        age = 0.0 if began is None else time.monotonic() - began
        num_live_rows, num_rows = (0, 0) if self._live_rows is None else self._live_rows.latest()
        return replace(
            self._stats,
            step_age_s=age,
            is_closed=self._closed.is_set(),
            num_live_rows=num_live_rows,
            num_rows=num_rows,
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        return self._wait(self._submit_generation(prompts, params, priority))

    async def agenerate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        return await self._await(self._submit_generation(prompts, params, priority))

    def stream(self, prompt: Prompt, params: SamplingParams, *, priority: Priority = "interactive") -> RequestStream:
        return self.streams(prompt, [params], priority=priority)[0]

    def streams(
        self, prompt: Prompt, params: Sequence[SamplingParams], *, priority: Priority = "interactive"
    ) -> list[RequestStream]:
        streams, requests = [], []
        for param in params:
            request_id = next(self._ids)
            stream = RequestStream(
                on_abort=functools.partial(self._abort, request_id), place=functools.partial(self._place, request_id)
            )
            streams.append(stream)
            requests.append(self._generation(request_id, prompt, param, priority, stream.deliver))
        self._submit(requests)
        return streams

    def score(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        return self._wait(self._submit_scoring(requests, priority))

    async def ascore(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        return await self._await(self._submit_scoring(requests, priority))

    def hidden_states(self, prompts: Sequence[Prompt], *, priority: Priority = "batch") -> list[NDArray[np.float32]]:
        return self._wait(self._submit_hidden_states(prompts, priority))

    async def ahidden_states(
        self, prompts: Sequence[Prompt], *, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        return await self._await(self._submit_hidden_states(prompts, priority))

    def classify(
        self, prompts: Sequence[Prompt], *, head: str | None = None, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        chosen = self._heads.choose(head)
        return chosen.logits(self._wait(self._submit_hidden_states(prompts, priority, with_padding=False)))

    async def aclassify(
        self, prompts: Sequence[Prompt], *, head: str | None = None, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        chosen = self._heads.choose(head)
        return chosen.logits(await self._await(self._submit_hidden_states(prompts, priority, with_padding=False)))

    def attach_head(self, folder: str | Path) -> ClassificationHead:
        return self._heads.attach(Path(folder))

    def close(self) -> None:
        with self._submission:
            if not self._closed.is_set():
                self._closed.set()
                self._commands.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # -- from requests to the queue

    def _submit_generation(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams], priority: Priority
    ) -> list[tuple[int, Future[Completion]]]:
        _refuse_string(prompts)
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise InvalidRequest(f"{len(prompts)} prompts came with {len(each)} sampling params: give one each")
        requests, futures = [], []
        for prompt, param in zip(prompts, each, strict=True):
            future: Future[Completion] = Future()
            request_id = next(self._ids)
            requests.append(self._generation(request_id, prompt, param, priority, _completion_into(future)))
            futures.append((request_id, future))
        self._submit(requests)
        return futures

    def _submit_scoring(
        self, items: Sequence[ScoreRequest], priority: Priority
    ) -> list[tuple[int, Future[TokenScore]]]:
        self._require_lm_head()
        requests, futures = [], []
        for item in items:
            future: Future[TokenScore] = Future()
            request_id = next(self._ids)
            tokens = [*item.context_token_ids, *item.continuation_token_ids]
            self._check_tokens(tokens)
            # The last token predicts nothing, so it needs no place.
            if len(tokens) - 1 > self._max_request_tokens:
                raise ContextLengthExceeded(len(tokens), self._max_request_tokens + 1, reason=self._limit_reason)
            requests.append(
                Request(
                    request_id=request_id,
                    token_ids=tokens[:-1],
                    num_prompt_tokens=len(tokens) - 1,
                    targets=tuple(item.continuation_token_ids),
                    first_target_position=len(item.context_token_ids) - 1,
                    num_top_logprobs=item.top_logprobs,
                    deliver=_into(future),
                    arrival_s=time.monotonic(),
                    priority=priority,
                    salt=self.info.weights_sha256,
                )
            )
            futures.append((request_id, future))
        self._submit(requests)
        return futures

    def _submit_hidden_states(
        self, prompts: Sequence[Prompt], priority: Priority, *, with_padding: bool = True
    ) -> list[tuple[int, Future[NDArray[np.float32]]]]:
        _refuse_string(prompts)
        requests, futures = [], []
        for prompt in prompts:
            future: Future[NDArray[np.float32]] = Future()
            request_id = next(self._ids)
            tokens, vectors = self._tokens_of(prompt)
            if not with_padding and vectors is None:
                tokens = self._without_padding(tokens)
            if len(tokens) > self._max_request_tokens:
                raise ContextLengthExceeded(len(tokens), self._max_request_tokens, reason=self._limit_reason)
            requests.append(
                Request(
                    request_id=request_id,
                    token_ids=tokens,
                    num_prompt_tokens=len(tokens),
                    vectors=vectors,
                    wants_hidden_state=True,
                    deliver=_into(future),
                    arrival_s=time.monotonic(),
                    priority=priority,
                    salt=self.info.weights_sha256,
                )
            )
            futures.append((request_id, future))
        self._submit(requests)
        return futures

    def _without_padding(self, token_ids: list[int]) -> list[int]:
        """Up to the last token that is no padding; one of padding alone is read at its first token, as Hugging Face
        does."""
        end = len(token_ids)
        while end > 1 and token_ids[end - 1] == self._pad_token_id:
            end -= 1
        return token_ids[:end]

    def _generation(
        self, request_id: int, prompt: Prompt, params: SamplingParams, priority: Priority, deliver: Deliver
    ) -> Request:
        self._require_lm_head()
        tokens, vectors = self._tokens_of(prompt)
        room = self._max_request_tokens - len(tokens)
        if room < 1:
            raise ContextLengthExceeded(len(tokens), self._max_request_tokens - 1, reason=self._limit_reason)
        self._check_tokens(params.logit_bias)
        return Request(
            request_id=request_id,
            token_ids=tokens,
            num_prompt_tokens=len(tokens),
            vectors=vectors,
            params=params,
            targets=() if params.prompt_logprobs is None else tuple(tokens[1:]),
            num_top_logprobs=params.prompt_logprobs or 0,
            seed=secrets.randbits(32) if params.seed is None else params.seed,
            max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
            deliver=deliver,
            arrival_s=time.monotonic(),
            priority=priority,
            salt=self.info.weights_sha256,
        )

    def _tokens_of(self, prompt: Prompt) -> tuple[list[int], Vectors | None]:
        vectors = None
        if isinstance(prompt, EmbeddedPrompt):
            if prompt.vectors.shape[1] != self._hidden_size:
                raise InvalidRequest(
                    f"vectors of shape {prompt.vectors.shape} do not fit: this model's have {self._hidden_size} numbers"
                )
            tokens = list(prompt.token_ids)
            vectors = Vectors(tuple(prompt.positions), prompt.vectors.astype("float32"))
        else:
            tokens = self.tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else list(prompt)
        if not tokens:
            raise InvalidRequest("the prompt is empty: give at least one token")
        self._check_tokens(tokens)
        return tokens, vectors

    def _require_lm_head(self) -> None:
        if not self.info.has_lm_head:
            raise InvalidRequest(
                f"{self.info.model_name} has a classification head in place of a language model's: it can only classify"
            )

    def _check_tokens(self, token_ids: Iterable[int]) -> None:
        for token in token_ids:
            if not 0 <= token < self.info.vocab_size:
                raise InvalidRequest(
                    f"token id {token} is not allowed: this model's ids are 0 to {self.info.vocab_size - 1}"
                )

    def _submit(self, requests: Sequence[Request]) -> None:
        scheduler = self._core.scheduler
        if scheduler.pool.caches_prefixes:
            requests = with_trunks(requests, max_forks=scheduler.max_num_requests, ids=self._ids)

        def add() -> None:
            for request in requests:
                self._core.add(request)

        with self._submission:
            if self._closed.is_set():
                raise EngineClosed("the engine is closed: open the checkpoint again")
            self._commands.put(add)

    def _abort(self, request_id: int) -> None:
        self._commands.put(lambda: self._core.abort(request_id))

    def _place(self, request_id: int) -> int | None:
        waiting = tuple(self._core.scheduler.waiting)  # copied in one step of the interpreter: no lock is needed
        return next((place for place, one in enumerate(waiting, 1) if one.request_id == request_id), None)

    # -- waiting for results

    def _wait(self, futures: Sequence[tuple[int, Future[Result]]]) -> list[Result]:
        try:
            return [future.result() for _, future in futures]
        except BaseException:
            self._abort_unfinished(futures)
            raise

    async def _await(self, futures: Sequence[tuple[int, Future[Result]]]) -> list[Result]:
        try:
            return [await asyncio.shield(asyncio.wrap_future(future)) for _, future in futures]
        except BaseException:
            self._abort_unfinished(futures)
            raise

    def _abort_unfinished(self, futures: Sequence[tuple[int, Future[Any]]]) -> None:
        for request_id, future in futures:
            if not future.done():
                self._abort(request_id)

    # -- the engine's thread

    def _loop(self) -> None:
        error: Exception = EngineClosed("the engine was closed while the request ran")
        try:
            self._core.runner.use_device()
            while self._take_commands():
                self._step_began_s = time.monotonic()
                self._core.step()
                self._step_began_s = None
                self._stats = self._core.stats()
        except Exception as failure:
            logger.exception("the engine loop failed")
            error = EngineClosed(f"the engine loop failed ({type(failure).__name__}: {failure}): restart it")
            error.__cause__ = failure
        self._step_began_s = None
        with self._submission:
            self._closed.set()
        while not self._commands.empty():  # requests that came in before the end mark
            command = self._commands.get_nowait()
            if command is not None:
                command()
        self._core.fail_all(error)
        self._stats = self._core.stats()
        self._core.release()

    def _take_commands(self) -> bool:
        """Run what callers queued, waiting for something if there is no work; false once closed."""
        block = not self._core.has_work
        if block:
            self._stats = self._core.stats(fresh=True)
        while True:
            try:
                command = self._commands.get(block=block)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            block = False


def _completion_into(future: Future[Completion]) -> Deliver:
    def deliver(event: Event) -> None:
        if isinstance(event, Exception):
            future.set_exception(event)
        elif isinstance(event, StreamChunk) and event.completion is not None:
            future.set_result(event.completion)

    return deliver


def _into(future: Future[Any]) -> Deliver:
    def deliver(event: Event) -> None:
        if isinstance(event, Exception):
            future.set_exception(event)
        else:
            future.set_result(event)

    return deliver


def _refuse_string(prompts: object) -> None:
    if isinstance(prompts, str):
        raise InvalidRequest("prompts is one string: give a list of prompts")

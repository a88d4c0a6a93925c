"""The engine behind `model.interface.Engine`: one thread steps the core, callers talk to it through a queue."""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from model.engine.core import EngineCore
from model.engine.request import Deliver, Event, Request
from model.engine.stream import RequestStream
from model.interface import (
    ChatTemplate,
    Completion,
    ContextLengthExceeded,
    EngineClosed,
    EngineInfo,
    EngineStats,
    InvalidRequest,
    Prompt,
    SamplingParams,
    ScoreRequest,
    StreamChunk,
    Tokenizer,
    TokenScore,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result", Completion, TokenScore)


class LocalEngine:
    """A model in this process; implements `model.interface.Engine`.

    Args:
        core: must not be used by anybody else.
        max_request_tokens: most tokens one request may hold, prompt and answer: the context length, or what the KV
            cache holds if that is less.
    """

    def __init__(
        self,
        core: EngineCore,
        *,
        info: EngineInfo,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate,
        max_request_tokens: int,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self._core = core
        self._max_request_tokens = max_request_tokens
        self._limit_reason = (
            "the context length" if max_request_tokens == info.context_length else "the KV cache's memory"
        )
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ids = itertools.count()
        self._closed = threading.Event()
        self._submission = threading.Lock()  # a request is queued before the end mark or refused
        self._stats = core.stats()
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def stats(self) -> EngineStats:
        return self._stats

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> list[Completion]:
        return self._wait(self._submit_generation(prompts, params))

    async def agenerate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> list[Completion]:
        return await self._await(self._submit_generation(prompts, params))

    def stream(self, prompt: Prompt, params: SamplingParams) -> RequestStream:
        request_id = next(self._ids)
        stream = RequestStream(on_abort=lambda: self._abort(request_id))
        self._submit([self._generation(request_id, prompt, params, stream.deliver)])
        return stream

    def score(self, requests: Sequence[ScoreRequest]) -> list[TokenScore]:
        return self._wait(self._submit_scoring(requests))

    async def ascore(self, requests: Sequence[ScoreRequest]) -> list[TokenScore]:
        return await self._await(self._submit_scoring(requests))

    def close(self) -> None:
        with self._submission:
            if not self._closed.is_set():
                self._closed.set()
                self._commands.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # -- from requests to the queue

    def _submit_generation(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> list[tuple[int, Future[Completion]]]:
        if isinstance(prompts, str):
            raise InvalidRequest("prompts is one string: give a list of prompts")
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise InvalidRequest(f"{len(prompts)} prompts came with {len(each)} sampling params: give one each")
        requests, futures = [], []
        for prompt, param in zip(prompts, each, strict=True):
            future: Future[Completion] = Future()
            request_id = next(self._ids)
            requests.append(self._generation(request_id, prompt, param, _completion_into(future)))
            futures.append((request_id, future))
        self._submit(requests)
        return futures

    def _submit_scoring(self, items: Sequence[ScoreRequest]) -> list[tuple[int, Future[TokenScore]]]:
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
                    deliver=_score_into(future),
                    arrival_s=time.monotonic(),
                )
            )
            futures.append((request_id, future))
        self._submit(requests)
        return futures

    def _generation(self, request_id: int, prompt: Prompt, params: SamplingParams, deliver: Deliver) -> Request:
        tokens = self.tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else list(prompt)
        if not tokens:
            raise InvalidRequest("the prompt is empty: give at least one token")
        self._check_tokens(tokens)
        room = self._max_request_tokens - len(tokens)
        if room < 1:
            raise ContextLengthExceeded(len(tokens), self._max_request_tokens - 1, reason=self._limit_reason)
        return Request(
            request_id=request_id,
            token_ids=tokens,
            num_prompt_tokens=len(tokens),
            params=params,
            seed=secrets.randbits(32) if params.seed is None else params.seed,
            max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
            deliver=deliver,
            arrival_s=time.monotonic(),
        )

    def _check_tokens(self, token_ids: Sequence[int]) -> None:
        for token in token_ids:
            if not 0 <= token < self.info.vocab_size:
                raise InvalidRequest(
                    f"token id {token} is not allowed: this model's ids are 0 to {self.info.vocab_size - 1}"
                )

    def _submit(self, requests: Sequence[Request]) -> None:
        def add() -> None:
            for request in requests:
                self._core.add(request)

        with self._submission:
            if self._closed.is_set():
                raise EngineClosed("the engine is closed: open the checkpoint again")
            self._commands.put(add)

    def _abort(self, request_id: int) -> None:
        self._commands.put(lambda: self._core.abort(request_id))

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
            while self._take_commands():
                self._core.step()
                self._stats = self._core.stats()
        except Exception as failure:
            logger.exception("the engine loop failed")
            error = EngineClosed(f"the engine loop failed ({type(failure).__name__}: {failure}): restart it")
            error.__cause__ = failure
        with self._submission:
            self._closed.set()
        while not self._commands.empty():  # requests that came in before the end mark
            command = self._commands.get_nowait()
            if command is not None:
                command()
        self._core.fail_all(error)
        self._stats = self._core.stats()
        del self._core.runner  # the model and its cache

    def _take_commands(self) -> bool:
        """Run what callers queued, waiting for something if there is no work; false once closed."""
        block = not self._core.has_work
        if block:
            self._stats = self._core.stats()
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


def _score_into(future: Future[TokenScore]) -> Deliver:
    def deliver(event: Event) -> None:
        if isinstance(event, Exception):
            future.set_exception(event)
        elif isinstance(event, TokenScore):
            future.set_result(event)

    return deliver

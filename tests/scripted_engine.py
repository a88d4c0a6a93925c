"""An engine that follows a script, for tests of pages and evaluations: no weights, real concurrency.

It implements the whole `model.interface.Engine` protocol. A callable turns each prompt into its answer;
tokens are UTF-8 bytes, handed out at a chosen rate by one loop thread that runs a set number of requests at
once, and queues the rest, interactive ones first. Stop strings, stop ids, `max_tokens`, the context length,
aborts and failures behave as the interface says. Log-probabilities, of answers, prompts and scores, are those
of a model that expects the script. Sampling values other than these are recorded (`requests`) and otherwise
ignored, as are vectors in prompts.

    engine = ScriptedEngine(lambda prompt: " Hello.", tokens_per_s=200, ttft_s=0.1, max_num_requests=2)
    engine.generate(["human: Hi\\n\\nadept:"], SamplingParams())[0].text  # " Hello."
    engine.stats().num_running, engine.stats().num_aborted
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import math
import random
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.engine.metrics import Metrics
from model.interface import (
    ChatMessage,
    ClassificationHead,
    Completion,
    CompletionStream,
    ContextLengthExceeded,
    EmbeddedPrompt,
    Engine,
    EngineClosed,
    EngineError,
    EngineInfo,
    EngineStats,
    FinishReason,
    InvalidRequest,
    Priority,
    Prompt,
    SamplingParams,
    ScoreRequest,
    StreamChunk,
    Timing,
    TokenLogprob,
    TokenScore,
)

END_OF_DOCUMENT = 256
BLOCK_SIZE = 16
GREEDY_LOGPROB = math.log(0.9)
OTHER_LOGPROB = math.log(0.1 / 256)


class ByteTokenizer:
    """One id a UTF-8 byte, and 256 for the end of a document (also the first token, as Persimmon's is)."""

    @property
    def vocab_size(self) -> int:
        return 257

    @property
    def bos_token_id(self) -> int | None:
        return END_OF_DOCUMENT

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        return (END_OF_DOCUMENT,)

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def encode_prompt(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(token) for token in token_ids).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < END_OF_DOCUMENT else b""


class PersimmonStyleTemplate:
    """`human: a\\n\\nadept: b\\n\\nhuman: c\\n\\nadept:`; a prefix comes before it all, then a blank line."""

    @property
    def name(self) -> str:
        return "persimmon"

    @property
    def stop(self) -> tuple[str, ...]:
        return ("\n\nhuman:",)

    def render(self, messages: Sequence[ChatMessage]) -> str:
        parts: list[str] = []
        expected = "user"
        for position, message in enumerate(messages):
            if message.role == "prefix" and position == 0:
                if message.content.strip():
                    parts.append(message.content.strip())
                continue
            if message.role != expected:
                raise InvalidRequest(f"message {position} is from {message.role!r} but must be from {expected!r}")
            speaker = "human" if message.role == "user" else "adept"
            parts.append(f"{speaker}: {message.content.strip()}")
            expected = "assistant" if message.role == "user" else "user"
        if not any(message.role == "user" for message in messages):
            raise InvalidRequest("the conversation has no user message: write one")
        if messages[-1].role == "user":
            parts.append("adept:")
        return "\n\n".join(parts)

    def answer(self, text: str) -> str:
        return text.strip()


def logprob_of(token_id: int, *, expected: int, num_top: int) -> TokenLogprob:
    """What a model says that is sure of one token to 0.9 and gives all others equal shares of the rest."""
    others = (token for token in range(END_OF_DOCUMENT + 1) if token != expected)
    top = [(expected, GREEDY_LOGPROB), *((token, OTHER_LOGPROB) for token in others)]
    logprob = GREEDY_LOGPROB if token_id == expected else OTHER_LOGPROB
    return TokenLogprob(token_id=token_id, logprob=logprob, top=tuple(top[:num_top]))


def scripted_head(name: str, labels: Sequence[str]) -> ClassificationHead:
    """A head of one label among several."""
    return ClassificationHead(
        name=name, labels=tuple(labels), problem_type="single_label", source="scripted", weight_sha256="2" * 64
    )


class _Request:
    """One request and the queue its reader empties; the engine's lock guards the one, `_ready` the other."""

    def __init__(
        self,
        *,
        prompt_token_ids: Sequence[int],
        answer_ids: Sequence[int],
        params: SamplingParams,
        max_tokens: int,
        priority: Priority,
        prompt_logprobs: Sequence[TokenLogprob],
    ) -> None:
        self.prompt_token_ids = tuple(prompt_token_ids)
        self.answer_ids = tuple(answer_ids)
        self.params = params
        self.max_tokens = max_tokens
        self.priority = priority
        self.prompt_logprobs = tuple(prompt_logprobs)
        self.num_cached_tokens = 0
        self.seed = params.seed if params.seed is not None else random.getrandbits(31)
        self.failure: EngineError | None = None
        self.fail_after = 0
        self.arrived = time.perf_counter()
        self.scheduled: float | None = None
        self.due = math.inf  # when its next token is, on the clock of `time.perf_counter`
        self.first_token: float | None = None
        self.last_token = 0.0
        self.token_ids: list[int] = []
        self.done = False
        self._unsent_ids: list[int] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._num_sent = 0
        self._ready = threading.Condition()
        self._chunks: deque[StreamChunk | EngineError] = deque()
        self._ended = False
        self._wake: Callable[[], None] | None = None

    def step(self) -> None:
        """Give the next token of the script, and finish where a rule says so."""
        token = self.answer_ids[len(self.token_ids) % len(self.answer_ids)]
        self.token_ids.append(token)
        self._unsent_ids.append(token)
        if self.first_token is None:
            self.first_token = time.perf_counter()
        if self.failure is not None and len(self.token_ids) > self.fail_after:
            self.done = True
            self._put(self.failure)
            return
        is_end = token == END_OF_DOCUMENT and not self.params.ignore_eos
        if is_end or token in self.params.stop_token_ids:
            self.finish("stop", token if token in self.params.stop_token_ids else None)
            return
        if token < END_OF_DOCUMENT:
            self._text += self._decoder.decode(bytes([token]))
        found = [(self._text.find(stop), stop) for stop in self.params.stop if stop in self._text]
        if found:
            position, stop = min(found)
            self._text = self._text[:position]
            self.finish("stop", stop)
        elif len(self.token_ids) >= self.max_tokens:
            self.finish("length", None)

    def flush(self) -> None:
        """Send what cannot be part of a stop string any more."""
        held = max(
            (n for stop in self.params.stop for n in range(1, len(stop)) if self._text.endswith(stop[:n])),
            default=0,
        )
        if not self.done and len(self._text) - held > self._num_sent:
            self._send(len(self._text) - held, None)

    def finish(self, reason: FinishReason, stop_reason: str | int | None) -> None:
        """End the request and send the last chunk with its completion."""
        self.done = True
        if stop_reason is None or isinstance(stop_reason, int):
            self._text += self._decoder.decode(b"", final=True)
        now = time.perf_counter()
        scheduled = self.scheduled if self.scheduled is not None else now
        timing = Timing(
            queued_s=scheduled - self.arrived,
            ttft_s=None if self.first_token is None else self.first_token - self.arrived,
            total_s=now - self.arrived,
        )
        completion = Completion(
            text=self._text,
            token_ids=tuple(self.token_ids),
            finish_reason=reason,
            stop_reason=stop_reason,
            num_prompt_tokens=len(self.prompt_token_ids),
            seed=self.seed,
            timing=timing,
            logprobs=self._logprobs(self.token_ids),
            prompt_logprobs=self.prompt_logprobs,
            num_cached_tokens=self.num_cached_tokens,
        )
        self._send(len(self._text), completion)

    def fail(self, error: EngineError) -> None:
        """End the request with an error, raised from the reader's next read."""
        self.done = True
        self._put(error)

    def _logprobs(self, token_ids: Sequence[int]) -> tuple[TokenLogprob, ...]:
        num_top = self.params.logprobs
        if num_top is None:
            return ()
        return tuple(logprob_of(token, expected=token, num_top=num_top) for token in token_ids)

    def _send(self, end: int, completion: Completion | None) -> None:
        chunk = StreamChunk(
            text=self._text[self._num_sent : end],
            token_ids=tuple(self._unsent_ids),
            logprobs=self._logprobs(self._unsent_ids),
            completion=completion,
        )
        self._num_sent = end
        self._unsent_ids.clear()
        self._put(chunk)

    def _put(self, item: StreamChunk | EngineError) -> None:
        with self._ready:
            self._chunks.append(item)
            self._ready.notify_all()
            if self._wake is not None:
                self._wake()

    def _take(self) -> StreamChunk | None:
        """The oldest chunk. Call with `_ready` held."""
        if not self._chunks:
            return None
        item = self._chunks.popleft()
        if isinstance(item, EngineError):
            self._ended = True
            raise item
        self._ended = item.completion is not None
        return item

    def read(self, timeout: float | None) -> StreamChunk | None:
        with self._ready:
            if self._ended:
                raise StopIteration
            self._ready.wait_for(lambda: bool(self._chunks), timeout)
            return self._take()

    async def aread(self, timeout: float | None) -> StreamChunk | None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the reader's event loop is gone
                loop.call_soon_threadsafe(event.set)

        with self._ready:
            if self._ended:
                raise StopAsyncIteration
            if self._chunks:
                return self._take()
            self._wake = wake
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            return None
        finally:
            self._wake = None
        with self._ready:
            return self._take()


class ScriptedStream:
    """A running request's reading end."""

    def __init__(self, engine: ScriptedEngine, request: _Request) -> None:
        self._engine = engine
        self._request = request

    def next_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        return self._request.read(timeout)

    async def anext_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        return await self._request.aread(timeout)

    def place(self) -> int | None:
        return self._engine._place(self._request)

    def abort(self) -> None:
        self._engine._abort(self._request)

    def __iter__(self) -> Iterator[StreamChunk]:
        while True:
            try:
                chunk = self.next_chunk()
            except StopIteration:
                return
            if chunk is not None:
                yield chunk

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        while True:
            try:
                chunk = await self.anext_chunk()
            except StopAsyncIteration:
                return
            if chunk is not None:
                yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class ScriptedEngine:
    """See the module's docstring.

    Args:
        answer: gives the text for a prompt; the end-of-document token is added to it.
        tokens_per_s: rate of each request's tokens (bytes); `None` is at once.
        ttft_s: seconds from a request's start to its first token.
        context_length: most tokens of prompt and answer together.
        max_num_requests: requests that run together; further ones wait.
        failure: gives the error a prompt's request fails with, or `None`; raised from the reads.
        fail_after: tokens generated before a failing request fails.
        hidden_state: gives a prompt's hidden state, the same number of values for all.
        heads: the labels of each classification head (single label) by name; the first is the checkpoint's own.
        logits: gives a head's logits, one for each of its labels, for the head's name and a prompt.
            model_name, family, notice: for `info`.
    """

    def __init__(
        self,
        answer: Callable[[str], str] = lambda prompt: " This is a scripted answer.",
        *,
        tokens_per_s: float | None = None,
        ttft_s: float = 0.0,
        context_length: int = 2048,
        max_num_requests: int = 4,
        failure: Callable[[str], EngineError | None] = lambda prompt: None,
        fail_after: int = 0,
        hidden_state: Callable[[str], Sequence[float]] = lambda prompt: (float(len(prompt)), 1.0),
        heads: Mapping[str, Sequence[str]] | None = None,
        logits: Callable[[str, str], Sequence[float]] = lambda head, prompt: (float(len(prompt)), 1.0),
        model_name: str = "scripted-engine",
        family: str = "persimmon",
        notice: str | None = None,
        has_lm_head: bool = True,
    ) -> None:
        self.answer = answer
        self.tokens_per_s = tokens_per_s
        self.ttft_s = ttft_s
        self.failure = failure
        self.fail_after = fail_after
        self.hidden_state = hidden_state
        self.logits = logits
        self._heads = {name: scripted_head(name, labels) for name, labels in (heads or {}).items()}
        self.requests: list[tuple[str, SamplingParams]] = []
        """Every accepted prompt, as text, with its sampling values, oldest first."""
        self.priorities: list[Priority] = []
        """The priority of each of them, and of every call of `score`, `hidden_states` and `classify`."""
        blocks_per_request = -(-context_length // BLOCK_SIZE)
        self._info = EngineInfo(
            model_name=model_name,
            source="scripted",
            revision=None,
            family=family,
            num_parameters=0,
            vocab_size=257,
            context_length=context_length,
            weights_sha256="0" * 64,
            tokenizer_sha256="1" * 64,
            prompts_begin_with_bos=False,
            device="cpu",
            dtype="float32",
            rope_position_dtype="float32",
            attention_backend="scripted: no attention runs",
            attention_not_used={"triton": "it needs an NVIDIA GPU"},
            block_size=BLOCK_SIZE,
            num_blocks=1 + max_num_requests * blocks_per_request,
            max_num_requests=max_num_requests,
            notice=notice,
            has_lm_head=has_lm_head,
            licence=None,
            versions={},
        )
        self._tokenizer = ByteTokenizer()
        self._template = PersimmonStyleTemplate()
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._closed = False
        self._metrics = Metrics()
        self._thread = threading.Thread(target=self._loop, name="scripted-engine", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def tokenizer(self) -> ByteTokenizer:
        return self._tokenizer

    @property
    def chat_template(self) -> PersimmonStyleTemplate:
        return self._template

    @property
    def heads(self) -> Mapping[str, ClassificationHead]:
        return dict(self._heads)

    def stats(self) -> EngineStats:
        with self._changed:
            usable = self._info.num_blocks - 1
            held = sum(
                -(-(len(request.prompt_token_ids) + len(request.token_ids)) // BLOCK_SIZE) for request in self._running
            )
            metrics, now = self._metrics, time.perf_counter()
            metrics.refresh(now, force=True)
            return EngineStats(
                num_running=len(self._running),
                num_waiting=len(self._waiting),
                num_free_blocks=usable - held,
                num_usable_blocks=usable,
                num_generated_tokens=metrics.num_generated_tokens,
                num_prompt_tokens=metrics.num_prompt_tokens,
                num_cached_tokens=metrics.num_cached_tokens,
                num_finished=metrics.num_finished,
                num_aborted=metrics.num_aborted,
                num_preemptions=0,
                num_steps=metrics.num_steps,
                ttft_s=metrics.ttft_s,
                inter_token_s=metrics.inter_token_s,
                tokens_per_s=metrics.tokens_per_s(now),
                is_closed=self._closed,
            )

    def wait_for(self, condition: Callable[[EngineStats], bool], timeout: float = 5.0) -> float:
        """Seconds until `condition` holds for the engine's load; TimeoutError if it does not in time."""
        start = time.perf_counter()
        while not condition(self.stats()):
            if time.perf_counter() - start > timeout:
                raise TimeoutError(f"not within {timeout} s: {self.stats()}")
            time.sleep(0.005)
        return time.perf_counter() - start

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        streams = self._submit_all(prompts, params, priority)
        try:
            return [_last(list(stream)) for stream in streams]
        finally:
            for stream in streams:
                stream.abort()

    async def agenerate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        streams = self._submit_all(prompts, params, priority)
        try:
            return [_last([chunk async for chunk in stream]) for stream in streams]
        finally:
            for stream in streams:
                stream.abort()

    def stream(self, prompt: Prompt, params: SamplingParams, *, priority: Priority = "interactive") -> CompletionStream:
        return self._submit_all([prompt], params, priority)[0]

    def streams(
        self, prompt: Prompt, params: Sequence[SamplingParams], *, priority: Priority = "interactive"
    ) -> Sequence[CompletionStream]:
        return self._submit_all([prompt] * len(params), params, priority)

    def score(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        """The script's own token is greedy with probability 0.9; all others have equal shares of the rest. After a
        token off the script the end of the document is expected."""
        self._note_call(priority)
        scores = []
        for request in requests:
            num_tokens = len(request.context_token_ids) + len(request.continuation_token_ids)
            if num_tokens - 1 > self._info.context_length:  # the last token predicts nothing and is not read
                raise ContextLengthExceeded(num_tokens, self._info.context_length + 1)
            scored = self._scored(request.context_token_ids, request.continuation_token_ids, request.top_logprobs)
            scores.append(
                TokenScore(
                    token_ids=request.continuation_token_ids,
                    logprobs=tuple(one.logprob for one in scored),
                    is_greedy=tuple(one.logprob == GREEDY_LOGPROB for one in scored),
                    top=tuple(one.top for one in scored) if request.top_logprobs else (),
                )
            )
        return scores

    async def ascore(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        return self.score(requests, priority=priority)

    def hidden_states(self, prompts: Sequence[Prompt], *, priority: Priority = "batch") -> list[NDArray[np.float32]]:
        """What the script's `hidden_state` gives."""
        _refuse_string(prompts)
        self._note_call(priority)
        states = []
        for prompt in prompts:
            token_ids, text = self._tokens_of(prompt)
            if len(token_ids) > self._info.context_length:
                raise ContextLengthExceeded(len(token_ids), self._info.context_length)
            states.append(np.asarray(self.hidden_state(text), dtype=np.float32))
        return states

    async def ahidden_states(
        self, prompts: Sequence[Prompt], *, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        return self.hidden_states(prompts, priority=priority)

    def classify(
        self, prompts: Sequence[Prompt], *, head: str | None = None, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        """What the script's `logits` gives."""
        name = next(iter(self._heads), None) if head is None else head
        if name not in self._heads:
            raise InvalidRequest(f"head={head!r} is not there: use one of {', '.join(self._heads) or '(none)'}")
        self.hidden_states(prompts, priority=priority)  # the same checks
        return [np.asarray(self.logits(name, self._tokens_of(prompt)[1]), dtype=np.float32) for prompt in prompts]

    async def aclassify(
        self, prompts: Sequence[Prompt], *, head: str | None = None, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        return self.classify(prompts, head=head, priority=priority)

    def attach_head(self, folder: str | Path) -> ClassificationHead:
        """A head of the folder's name, with the labels of the first one."""
        labels = next(iter(self._heads.values())).labels if self._heads else ("no", "yes")
        head = scripted_head(Path(folder).name, labels)
        self._heads[head.name] = head
        return head

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _script(self, prompt: str) -> list[int]:
        return [*self._tokenizer.encode(self.answer(prompt)), END_OF_DOCUMENT]

    def _note_call(self, priority: Priority) -> None:
        """Note a call that is answered at once."""
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed")
            self.priorities.append(priority)

    def _scored(
        self, context_token_ids: Sequence[int], token_ids: Sequence[int], num_top: int
    ) -> tuple[TokenLogprob, ...]:
        script = self._script(self._tokenizer.decode(context_token_ids))
        scored = []
        for position, token in enumerate(token_ids):
            expected = script[position % len(script)]
            scored.append(logprob_of(token, expected=expected, num_top=num_top))
            if token != expected:
                script = [END_OF_DOCUMENT]
        return tuple(scored)

    def _submit_all(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams], priority: Priority
    ) -> list[ScriptedStream]:
        _refuse_string(prompts)
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise InvalidRequest(f"{len(prompts)} prompts came with {len(each)} sampling params: give one each")
        requests = [self._request(prompt, one, priority) for prompt, one in zip(prompts, each, strict=True)]
        seen: set[tuple[int, ...]] = set()
        for request, _ in requests:  # a prompt that is there several times is computed once
            request.num_cached_tokens = len(request.prompt_token_ids) if request.prompt_token_ids in seen else 0
            seen.add(request.prompt_token_ids)
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed")
            for request, text in requests:
                self.requests.append((text, request.params))
                self.priorities.append(priority)
            waiting = [*self._waiting, *(request for request, _ in requests)]
            self._waiting = deque(sorted(waiting, key=lambda request: request.priority == "batch"))
            self._changed.notify_all()
        return [ScriptedStream(self, request) for request, _ in requests]

    def _request(self, prompt: Prompt, params: SamplingParams, priority: Priority) -> tuple[_Request, str]:
        token_ids, text = self._tokens_of(prompt)
        room = self._info.context_length - len(token_ids)
        if room < 1:
            raise ContextLengthExceeded(len(token_ids), self._info.context_length - 1)
        self._check_tokens(params.logit_bias)
        num_top = params.prompt_logprobs
        request = _Request(
            prompt_token_ids=token_ids,
            answer_ids=self._script(text),
            params=params,
            max_tokens=room if params.max_tokens is None else min(room, params.max_tokens),
            priority=priority,
            prompt_logprobs=() if num_top is None else self._scored(token_ids[:1], token_ids[1:], num_top),
        )
        request.failure = self.failure(text)
        request.fail_after = self.fail_after
        return request, text

    def _tokens_of(self, prompt: Prompt) -> tuple[list[int], str]:
        """A prompt's token ids and its text."""
        if isinstance(prompt, str):
            token_ids, text = self._tokenizer.encode(prompt), prompt
        else:
            token_ids = list(prompt.token_ids if isinstance(prompt, EmbeddedPrompt) else prompt)
            self._check_tokens(token_ids)
            text = self._tokenizer.decode(token_ids)
        if not token_ids:
            raise InvalidRequest("the prompt is empty: give at least one token")
        hidden_size = len(self.hidden_state(text))
        if isinstance(prompt, EmbeddedPrompt) and prompt.vectors.shape[1] != hidden_size:
            raise InvalidRequest(
                f"vectors of shape {prompt.vectors.shape} do not fit: this model's have {hidden_size} numbers"
            )
        return token_ids, text

    def _check_tokens(self, token_ids: Iterable[int]) -> None:
        for token in token_ids:
            if not 0 <= token < self._tokenizer.vocab_size:
                raise InvalidRequest(
                    f"token id {token} is not allowed: this model's ids are 0 to {self._tokenizer.vocab_size - 1}"
                )

    def _place(self, request: _Request) -> int | None:
        with self._changed:
            return self._waiting.index(request) + 1 if request in self._waiting else None

    def _abort(self, request: _Request) -> None:
        with self._changed:
            if request.done:
                return
            request.finish("abort", None)
            self._metrics.num_aborted += 1
            if request in self._waiting:
                self._waiting.remove(request)
            else:
                self._running.remove(request)
            self._changed.notify_all()

    def _loop(self) -> None:
        with self._changed:
            while not self._closed:
                num_generated = self._metrics.num_generated_tokens
                while self._waiting and len(self._running) < self._info.max_num_requests:
                    request = self._waiting.popleft()
                    request.scheduled = time.perf_counter()
                    request.due = self._due(request)
                    self._metrics.num_prompt_tokens += len(request.prompt_token_ids)
                    self._metrics.num_cached_tokens += request.num_cached_tokens
                    self._running.append(request)
                now = time.perf_counter()
                for request in [one for one in self._running if one.due <= now]:
                    self._advance(request)
                self._metrics.step(time.perf_counter(), self._metrics.num_generated_tokens - num_generated)
                self._changed.wait(self._seconds_to_next_token())
            for request in [*self._running, *self._waiting]:
                request.fail(EngineClosed("the engine was closed while the request ran"))
            self._running.clear()
            self._waiting.clear()

    def _due(self, request: _Request) -> float:
        """When a running request's next token is."""
        assert request.scheduled is not None
        spacing = 0.0 if self.tokens_per_s is None else 1 / self.tokens_per_s
        return request.scheduled + self.ttft_s + len(request.token_ids) * spacing

    def _advance(self, request: _Request) -> None:
        while not request.done and request.due <= time.perf_counter():
            request.step()
            request.due = self._due(request)
            self._metrics.num_generated_tokens += 1
            now = time.perf_counter()
            if len(request.token_ids) == 1:
                self._metrics.first_token(now - request.arrived)
            else:
                self._metrics.next_token(now - request.last_token)
            request.last_token = now
        if request.done:
            self._running.remove(request)
            self._metrics.num_finished += 1
        else:
            request.flush()

    def _seconds_to_next_token(self) -> float | None:
        if self._waiting and len(self._running) < self._info.max_num_requests:
            return 0.0
        if not self._running:
            return None
        return max(0.0, min(request.due for request in self._running) - time.perf_counter())


def _refuse_string(prompts: object) -> None:
    if isinstance(prompts, str):
        raise InvalidRequest("prompts is one string: give a list of prompts")


def _last(chunks: Sequence[StreamChunk]) -> Completion:
    completion = chunks[-1].completion
    assert completion is not None, "a stream ends with its completion"
    return completion


def _conforms(engine: ScriptedEngine) -> Engine:
    """Checked by mypy: the scripted engine is an engine."""
    return engine

"""The engine without threads: requests in, `step()` until nothing is left, results out through `deliver`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model.detokenizer import IncrementalDetokenizer
from model.engine.model_runner import ModelRunner
from model.engine.request import Request
from model.engine.scheduler import Scheduled, Scheduler
from model.interface import (
    Completion,
    EngineError,
    EngineStats,
    FinishReason,
    StreamChunk,
    Timing,
    Tokenizer,
    TokenScore,
)


@dataclass(slots=True)
class Counters:
    """Totals since the engine started."""

    num_generated_tokens: int = 0
    num_prompt_tokens: int = 0
    num_finished: int = 0
    num_aborted: int = 0
    num_steps: int = 0


class EngineCore:
    """One loop's state; used from a single thread."""

    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        tokenizer: Tokenizer,
        *,
        eos_token_ids: tuple[int, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self.counters = Counters()
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids)
        self._clock = clock
        self._requests: dict[int, Request] = {}
        self._detokenizers: dict[int, IncrementalDetokenizer] = {}

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def stats(self) -> EngineStats:
        scheduler, counters = self.scheduler, self.counters
        return EngineStats(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_free_blocks=scheduler.pool.num_free,
            num_usable_blocks=scheduler.pool.num_usable,
            num_generated_tokens=counters.num_generated_tokens,
            num_prompt_tokens=counters.num_prompt_tokens,
            num_finished=counters.num_finished,
            num_aborted=counters.num_aborted,
            num_preemptions=scheduler.num_preemptions,
            num_steps=counters.num_steps,
        )

    def add(self, request: Request) -> None:
        """Queue a request that fits the pool."""
        self._requests[request.request_id] = request
        if request.params is not None:
            self._detokenizers[request.request_id] = IncrementalDetokenizer(self._tokenizer, request.params.stop)
        self.scheduler.add(request)

    def abort(self, request_id: int) -> None:
        """End a request if it is still here, delivering what it has."""
        request = self._requests.get(request_id)
        if request is None:
            return
        self.counters.num_aborted += 1
        if request.params is None:
            self._drop(request)
            request.deliver(EngineError("the request was aborted"))
        else:
            self._finish(request, (), "", "abort", None)

    def fail_all(self, error: Exception) -> None:
        """End every request with an error."""
        for request in list(self._requests.values()):
            self._drop(request)
            request.deliver(error)

    def step(self) -> None:
        """Compute one batch and deliver its results. If the computation fails, the requests in it get the error and
        the others go on."""
        scheduled = self.scheduler.schedule()
        if not scheduled:
            return
        now = self._clock()
        for item in scheduled:
            if item.request.first_scheduled_s is None:
                item.request.first_scheduled_s = now
                self.counters.num_prompt_tokens += item.request.num_prompt_tokens
        try:
            result = self.runner.run(scheduled)
        except Exception as error:
            self._fail(scheduled, error)
            return
        self.counters.num_steps += 1
        self.scheduler.advance(scheduled)
        for item, token_id in zip(result.rows.sampled, result.token_ids, strict=True):
            self._append(item.request, token_id)
        scores = iter(zip(result.logprobs, result.is_greedy, strict=True))
        for item, targets in result.rows.scored:
            self._collect_scores(item.request, len(targets), scores)

    def _fail(self, scheduled: list[Scheduled], error: Exception) -> None:
        wrapped = error if isinstance(error, EngineError) else None
        if wrapped is None:
            wrapped = EngineError(f"the model failed on this batch: {type(error).__name__}: {error}")
            wrapped.__cause__ = error
        for item in scheduled:
            self._drop(item.request)
            item.request.deliver(wrapped)

    def _append(self, request: Request, token_id: int) -> None:
        params = request.params
        assert params is not None
        if request.first_token_s is None:
            request.first_token_s = self._clock()
        request.token_ids.append(token_id)
        self.counters.num_generated_tokens += 1
        if (token_id in self._eos_token_ids and not params.ignore_eos) or token_id in params.stop_token_ids:
            self._finish(request, (token_id,), "", "stop", token_id)
            return
        detokenizer = self._detokenizers[request.request_id]
        text = detokenizer.push((token_id,))
        if detokenizer.stopped_by is not None:
            self._finish(request, (token_id,), text, "stop", detokenizer.stopped_by)
        elif request.num_generated == request.max_tokens:
            self._finish(request, (token_id,), text, "length", None)
        else:
            request.deliver(StreamChunk(text=text, token_ids=(token_id,)))

    def _finish(
        self,
        request: Request,
        token_ids: tuple[int, ...],
        text: str,
        reason: FinishReason,
        stop_reason: str | int | None,
    ) -> None:
        detokenizer = self._detokenizers[request.request_id]
        text += detokenizer.finish()
        if reason == "length" and detokenizer.stopped_by is not None:
            # the bytes held back until now completed a stop string
            reason, stop_reason = "stop", detokenizer.stopped_by
        self._drop(request)
        self.counters.num_finished += reason != "abort"
        now = self._clock()
        queued_until = now if request.first_scheduled_s is None else request.first_scheduled_s
        completion = Completion(
            text=detokenizer.text,
            token_ids=tuple(request.token_ids[request.num_prompt_tokens :]),
            finish_reason=reason,
            stop_reason=stop_reason,
            num_prompt_tokens=request.num_prompt_tokens,
            seed=request.seed,
            timing=Timing(
                queued_s=queued_until - request.arrival_s,
                ttft_s=None if request.first_token_s is None else request.first_token_s - request.arrival_s,
                total_s=now - request.arrival_s,
            ),
        )
        request.deliver(StreamChunk(text=text, token_ids=token_ids, completion=completion))

    def _collect_scores(self, request: Request, count: int, scores: Iterator[tuple[float, bool]]) -> None:
        for _ in range(count):
            logprob, is_greedy = next(scores)
            request.logprobs.append(logprob)
            request.is_greedy.append(is_greedy)
        if len(request.logprobs) == len(request.targets):
            self._drop(request)
            self.counters.num_finished += 1
            request.deliver(
                TokenScore(
                    token_ids=request.targets,
                    logprobs=tuple(request.logprobs),
                    is_greedy=tuple(request.is_greedy),
                )
            )

    def _drop(self, request: Request) -> None:
        self.scheduler.remove(request)
        del self._requests[request.request_id]
        self._detokenizers.pop(request.request_id, None)

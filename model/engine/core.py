"""The engine without threads: requests in, `step()` until nothing is left, results out through `deliver`."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from model.detokenizer import IncrementalDetokenizer
from model.engine.cuda_graphs import DecodeGraphs, Launched
from model.engine.faults import is_fatal, is_out_of_memory
from model.engine.metrics import Metrics
from model.engine.model_runner import ModelRunner, StepResult
from model.engine.prompt_lookup import PromptLookup
from model.engine.request import Event, Request
from model.engine.sampler import Sampled
from model.engine.scheduler import Scheduled, Scheduler
from model.interface import (
    Completion,
    EngineError,
    EngineStats,
    FinishReason,
    StreamChunk,
    Timing,
    Tokenizer,
    TokenLogprob,
    TokenScore,
)

logger = logging.getLogger(__name__)


class EngineCore:
    """One loop's state; used from a single thread."""

    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        tokenizer: Tokenizer,
        *,
        eos_token_ids: tuple[int, ...],
        num_draft_tokens: int = 0,
        graphs: DecodeGraphs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runner = runner
        self.graphs = graphs
        self.scheduler = scheduler
        self.metrics = Metrics()
        self.num_draft_tokens = num_draft_tokens
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids)
        self._clock = clock
        self._requests: dict[int, Request] = {}
        self._detokenizers: dict[int, IncrementalDetokenizer] = {}
        self._in_flight: Launched | None = None

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work or self._in_flight is not None

    def stats(self, *, fresh: bool = False) -> EngineStats:
        """Where things stand; the quantiles are worked out again if they are old, or `fresh` ones are wanted."""
        scheduler, metrics, now = self.scheduler, self.metrics, self._clock()
        metrics.refresh(now, force=fresh)
        return EngineStats(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_free_blocks=scheduler.pool.num_free,
            num_usable_blocks=scheduler.pool.num_usable,
            num_generated_tokens=metrics.num_generated_tokens,
            num_prompt_tokens=metrics.num_prompt_tokens,
            num_cached_tokens=metrics.num_cached_tokens,
            num_draft_tokens=metrics.num_draft_tokens,
            num_accepted_tokens=metrics.num_accepted_tokens,
            num_finished=metrics.num_finished,
            num_aborted=metrics.num_aborted,
            num_preemptions=scheduler.num_preemptions,
            num_steps=metrics.num_steps,
            ttft_s=metrics.ttft_s,
            inter_token_s=metrics.inter_token_s,
            tokens_per_s=metrics.tokens_per_s(now),
        )

    def add(self, request: Request) -> None:
        """Queue a request that fits the pool, its forks with it."""
        for each in (request, *request.forks):
            self._requests[each.request_id] = each
            if each.params is not None:
                self._detokenizers[each.request_id] = IncrementalDetokenizer(self._tokenizer, each.params.stop)
                if self.num_draft_tokens:
                    each.lookup = PromptLookup()
        self.scheduler.add(request)

    def abort(self, request_id: int) -> None:
        """End a request if it is still here, delivering what it has."""
        request = self._requests.get(request_id)
        if request is None:
            return
        self.metrics.num_aborted += 1
        if request.params is None:
            self._drop(request)
            request.deliver(EngineError("the request was aborted"))
        else:
            self._finish(request, (), "", "abort", None)

    def fail_all(self, error: Exception) -> None:
        """End every request with an error."""
        for request in list(self._requests.values()):
            self._fail(request, error)

    def release(self) -> None:
        """Give back the model, its cache and the graphs, after :meth:`fail_all`; nothing can be computed any more."""
        if self._in_flight is not None:
            with contextlib.suppress(Exception):  # such as that of a device that is lost
                self._in_flight.read()
        self._in_flight = self.graphs = None
        del self.runner

    def step(self) -> None:
        """Compute one batch and deliver its results. If the computation fails, the requests in it get the error and
        the others go on; if memory runs out, its halves are computed one after the other.

        A step that is replayed from a graph is followed by the next before its own results are looked at, so that the
        device goes on while the host reads them. What they change shows a step late: an answer that has ended, or was
        aborted, has one token more computed, into blocks that nobody is given before the device is done with it.

        Raises:
            Exception: the device cannot go on (`model.engine.faults.is_fatal`).
        """
        launched, self._in_flight = self._in_flight, None
        if launched is None:
            self._propose_drafts()
            scheduled = self.scheduler.schedule()
            if not scheduled:
                return
            now = self._clock()
            for item in scheduled:
                self._count_prompt(item, now)
            if self.graphs is None or not self.graphs.takes(scheduled):
                self._take_in(*self._compute(scheduled))
                return
            launched = self._launch(scheduled)
            if launched is None:
                return
        # Drafts are made of tokens that are known.
        ahead = [] if self.num_draft_tokens else self.scheduler.schedule_ahead(launched.scheduled)
        if ahead:
            self._in_flight = self._launch(ahead)
        self._take_in(*self._wait(launched))

    def _launch(self, scheduled: list[Scheduled]) -> Launched | None:
        assert self.graphs is not None
        try:
            return self.graphs.launch(scheduled)
        except Exception as error:
            self._fail_batch(scheduled, error)
            if is_fatal(error):
                raise
            return None

    def _wait(self, launched: Launched) -> tuple[list[StepResult], list[Scheduled]]:
        assert self.graphs is not None
        try:
            return [self.graphs.wait(launched)], launched.scheduled
        except Exception as error:
            self._fail_batch(launched.scheduled, error)
            if is_fatal(error):
                raise
            return [], []

    def _take_in(self, results: list[StepResult], scheduled: list[Scheduled]) -> None:
        """Move the requests of a step on, and deliver what they got."""
        accepted = {request: len(tokens) - 1 for result in results for request, tokens in result.tokens}
        for item in scheduled:
            request = item.request
            rejected = item.num_draft_tokens - accepted.get(request, 0) if item.num_draft_tokens else 0
            request.num_computed_tokens += item.num_new_tokens - rejected
            self.metrics.num_draft_tokens += item.num_draft_tokens
            self.metrics.num_accepted_tokens += item.num_draft_tokens - rejected
        num_generated = self.metrics.num_generated_tokens
        for result in results:
            for request, logprob, is_greedy in result.scores:  # before the tokens, of which the first may be the last
                self._collect_score(request, logprob, is_greedy)
            for request, tokens in result.tokens:
                self._append_all(request, tokens)
            for request, hidden_state in result.hidden_states:
                self._end(request, hidden_state)
        for item in scheduled:
            self._go_on(item.request)
        self.metrics.step(self._clock(), self.metrics.num_generated_tokens - num_generated)

    def _compute(self, scheduled: list[Scheduled]) -> tuple[list[StepResult], list[Scheduled]]:
        """What was computed, and which items that was; the others' requests have failed."""
        try:
            return [self.runner.run(scheduled)], scheduled
        except Exception as error:
            if len(scheduled) == 1 or not is_out_of_memory(error):
                self._fail_batch(scheduled, error)
                if is_fatal(error):
                    raise
                return [], []
            logger.warning("memory ran out in a batch of %d requests: computing its halves", len(scheduled))
        # Here, not above: while an error is handled its traceback keeps the batch's tensors.
        half = len(scheduled) // 2
        first, first_done = self._compute(scheduled[:half])
        second, second_done = self._compute(scheduled[half:])
        return first + second, first_done + second_done

    def _fail_batch(self, scheduled: Sequence[Scheduled], error: Exception) -> None:
        wrapped = error if isinstance(error, EngineError) else None
        if wrapped is None:
            wrapped = EngineError(f"the model failed on this batch: {type(error).__name__}: {error}")
            wrapped.__cause__ = error
        for item in scheduled:
            self._fail(item.request, wrapped)

    def _propose_drafts(self) -> None:
        if not self.num_draft_tokens:
            return
        for request in self.scheduler.running:
            if request.lookup is not None and request.num_left == 1:
                room = request.max_tokens - request.num_generated - 1
                count = min(self.num_draft_tokens, room)
                request.draft_token_ids = request.lookup.propose(request.token_ids, count) if count > 0 else []

    def _count_prompt(self, item: Scheduled, now: float) -> None:
        """Note that a request began to run. A trunk is none: its forks are, and share all its tokens but once."""
        request = item.request
        if request.first_scheduled_s is None:
            request.first_scheduled_s = now
            if not request.forks:
                self._count_tokens(request)
        if item.reaches_end:
            for index, fork in enumerate(request.forks):
                fork.first_scheduled_s = request.first_scheduled_s
                fork.num_cached_tokens = request.num_tokens if index else request.num_cached_tokens
                self._count_tokens(fork)

    def _count_tokens(self, request: Request) -> None:
        self.metrics.num_prompt_tokens += request.num_prompt_tokens
        self.metrics.num_cached_tokens += request.num_cached_tokens

    def _go_on(self, request: Request) -> None:
        """After a step: make what was computed findable, and let forks go their ways."""
        if request.request_id not in self._requests:
            return
        self.scheduler.publish(request)
        if request.forks and not request.num_left:
            for fork in request.forks:
                fork.trunk = None
            self.runner.copy_blocks(self.scheduler.fork(request, request.forks))
            del self._requests[request.request_id]

    def _fail(self, request: Request, error: Exception) -> None:
        if request.request_id in self._requests:
            forks = list(request.forks)
            self._drop(request)
            for each in forks or [request]:
                self._requests.pop(each.request_id, None)
                self._detokenizers.pop(each.request_id, None)
                each.deliver(error)

    def _append_all(self, request: Request, tokens: list[Sampled]) -> None:
        request.draft_token_ids = []
        for token in tokens:
            if request.request_id not in self._requests:  # it ended before this one
                return
            self._append(request, token)

    def _append(self, request: Request, sampled: Sampled) -> None:
        params, token_id, now = request.params, sampled.token_id, self._clock()
        assert params is not None
        if request.first_token_s is None:
            request.first_token_s = now
            self.metrics.first_token(now - request.arrival_s)
        elif request.last_token_s is not None:
            self.metrics.next_token(now - request.last_token_s)
        request.last_token_s = now
        request.token_ids.append(token_id)
        logprobs = () if sampled.logprob is None else (sampled.logprob,)
        request.answer_logprobs += logprobs
        self.metrics.num_generated_tokens += 1
        if (token_id in self._eos_token_ids and not params.ignore_eos) or token_id in params.stop_token_ids:
            self._finish(request, (token_id,), "", "stop", token_id, logprobs)
            return
        detokenizer = self._detokenizers[request.request_id]
        text = detokenizer.push((token_id,))
        if detokenizer.stopped_by is not None:
            self._finish(request, (token_id,), text, "stop", detokenizer.stopped_by, logprobs)
        elif request.num_generated == request.max_tokens:
            self._finish(request, (token_id,), text, "length", None, logprobs)
        else:
            request.deliver(StreamChunk(text=text, token_ids=(token_id,), logprobs=logprobs))

    def _finish(
        self,
        request: Request,
        token_ids: tuple[int, ...],
        text: str,
        reason: FinishReason,
        stop_reason: str | int | None,
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        detokenizer = self._detokenizers[request.request_id]
        text += detokenizer.finish()
        if reason == "length" and detokenizer.stopped_by is not None:
            # the bytes held back until now completed a stop string
            reason, stop_reason = "stop", detokenizer.stopped_by
        self._drop(request)
        self.metrics.num_finished += reason != "abort"
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
            logprobs=tuple(request.answer_logprobs),
            prompt_logprobs=tuple(request.target_logprobs),
            num_cached_tokens=request.num_cached_tokens,
        )
        request.deliver(StreamChunk(text=text, token_ids=token_ids, logprobs=logprobs, completion=completion))

    def _collect_score(self, request: Request, logprob: TokenLogprob, is_greedy: bool) -> None:
        request.target_logprobs.append(logprob)
        request.target_is_greedy.append(is_greedy)
        if request.params is None and len(request.target_logprobs) == len(request.targets):
            scores = request.target_logprobs
            self._end(
                request,
                TokenScore(
                    token_ids=request.targets,
                    logprobs=tuple(score.logprob for score in scores),
                    is_greedy=tuple(request.target_is_greedy),
                    top=tuple(score.top for score in scores) if request.num_top_logprobs else (),
                ),
            )

    def _end(self, request: Request, result: Event) -> None:
        """Deliver the one result of a request."""
        self._drop(request)
        self.metrics.num_finished += 1
        request.deliver(result)

    def _drop(self, request: Request) -> None:
        """Forget a request, which may still be a fork of another."""
        if request.trunk is None:
            self.scheduler.remove(request)
        else:
            trunk = request.trunk
            trunk.forks.remove(request)
            if not trunk.forks:
                self.scheduler.remove(trunk)
                del self._requests[trunk.request_id]
        del self._requests[request.request_id]
        self._detokenizers.pop(request.request_id, None)

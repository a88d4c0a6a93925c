"""What lm-eval's language models here have in common: requests are asked side by side, and each answer is kept as it
comes, counted and timed."""

from __future__ import annotations

import asyncio
import math
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from tqdm import tqdm  # type: ignore[import-untyped]

from evals.answers import Answer, AnswerStore, RequestFacts, Value, request_keys
from evals.errors import EvaluationError

MAX_FAILURES_IN_A_ROW = 16
"""So many requests failing one after the other are no longer the items' fault: the run stops, and can go on later."""


class AnswerFailed(EvaluationError):
    """One request failed; others may go on."""


class Ask(Protocol):
    """Answers some requests that belong together, each with its key, or raises :class:`AnswerFailed`."""

    async def __call__(self, requests: Sequence[Instance], keys: Sequence[str]) -> Sequence[Answer]: ...


class AskingLM(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """A language model that answers each request by itself.

    Attributes:
        facts: one entry a request, in the order lm-eval asked.
        seconds: wall time of asking, by task; num_resumed: answers that were kept from an earlier run, by task.

    Args:
        store: where answers are kept; `None` keeps none.
        progress: whether to draw progress bars.
    """

    def __init__(self, *, store: AnswerStore | None = None, progress: bool = True) -> None:
        super().__init__()
        self.facts: list[RequestFacts] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.num_resumed: defaultdict[str, int] = defaultdict(int)
        self._store = store
        self._progress = progress

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """How many groups of requests are asked at a time."""

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> Any:
        """TemplateLM wants one for its own `loglikelihood`, in whose place each model here has another."""
        raise EvaluationError("token ids cannot be scored without their text: ask by loglikelihood")

    def session(self) -> AbstractAsyncContextManager[object]:
        """What is open while requests are asked."""
        return nullcontext()

    def ask_all(
        self, requests: Sequence[Instance], groups: Sequence[Sequence[int]], ask: Ask, verb: str, *, quiet: bool = False
    ) -> list[Any]:
        """Answers in the order of `requests`, task by task.

        Args:
            groups: places in `requests` that `ask` gets together; each place is in one group.
            verb: for the progress bar.
        """
        keys = request_keys(requests)
        answers: dict[int, Answer] = {}
        by_task: dict[str, list[Sequence[int]]] = {}
        for group in groups:
            by_task.setdefault(requests[group[0]].task_name or "", []).append(group)
        for task, mine in by_task.items():
            todo: list[Sequence[int]] = []
            for group in mine:
                kept = {place: self._kept(keys[place]) for place in group}
                if all(answer is not None for answer in kept.values()):
                    answers |= {place: answer for place, answer in kept.items() if answer is not None}
                else:
                    todo.append(group)
            self.num_resumed[task] += len(answers.keys() & {place for group in mine for place in group})
            clock = time.perf_counter()
            total = sum(len(group) for group in mine)
            with tqdm(
                total=total,
                initial=total - sum(len(group) for group in todo),
                desc=f"{verb} {task}".rstrip(),
                unit="request",
                disable=quiet or not self._progress,
            ) as bar:
                asyncio.run(self._ask_groups(requests, keys, todo, ask, answers, bar))
            self.seconds[task] += time.perf_counter() - clock
            _refuse_failures_only([answers[place].facts for group in mine for place in group])
        self.facts += [answers[place].facts for place in range(len(requests))]
        return [answers[place].value for place in range(len(requests))]

    def _kept(self, key: str) -> Answer | None:
        return None if self._store is None else self._store.get(key)

    async def _ask_groups(
        self,
        requests: Sequence[Instance],
        keys: Sequence[str],
        groups: Sequence[Sequence[int]],
        ask: Ask,
        answers: dict[int, Answer],
        bar: Any,
    ) -> None:
        free = asyncio.Semaphore(self.in_flight)
        failures_in_a_row = 0

        async def one(group: Sequence[int]) -> None:
            nonlocal failures_in_a_row
            asked = [requests[place] for place in group]
            try:
                got = await ask(asked, [keys[place] for place in group])
                failures_in_a_row = 0
            except AnswerFailed as error:
                failures_in_a_row += 1
                if failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                    raise EvaluationError(
                        f"{failures_in_a_row} requests failed one after the other, the last because {error}: what was "
                        "answered is kept, and the same command goes on from there"
                    ) from error
                got = [_no_answer(request, str(error)) for request in asked]
            finally:
                free.release()
            for place, answer in zip(group, got, strict=True):
                answers[place] = answer
                if self._store is not None:
                    self._store.put(keys[place], answer)
            bar.update(len(group))

        try:
            async with self.session(), asyncio.TaskGroup() as tasks:
                for group in groups:
                    await free.acquire()
                    tasks.create_task(one(group))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None


def _refuse_failures_only(facts: Sequence[RequestFacts]) -> None:
    if facts and all(fact.failed for fact in facts):
        raise EvaluationError(
            f"all {len(facts)} requests of {facts[0].task} failed, the last because {facts[-1].error}"
        )


def _no_answer(request: Instance, error: str) -> Answer:
    values: dict[str, Value] = {"generate_until": "", "loglikelihood": (math.nan, False)}
    facts = RequestFacts(task=request.task_name, doc_id=request.doc_id, error=error)
    return Answer(values.get(request.request_type, math.nan), facts)

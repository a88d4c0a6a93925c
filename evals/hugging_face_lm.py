"""lm-eval's own Hugging Face back-end, its answers kept and counted like the engine's, so that engines can be compared
through the same tasks."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from evals.answers import Answer, AnswerStore, RequestFacts, Value, request_keys
from evals.errors import EvaluationError
from evals.generation_options import sampling_options


class ContinuingHFLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """`HFLM` whose answers keep the blanks they begin with.

    HFLM decodes an answer as a document of its own, and a SentencePiece tokenizer drops a document's first blank: the
    first line of every HumanEval answer of Persimmon or Llama loses a blank of its indentation and none can run.
    """

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        if isinstance(tokens, int) or not skip_special_tokens:
            return str(super().tok_decode(tokens, skip_special_tokens=skip_special_tokens))
        before = self.tok_encode("a", add_special_tokens=False)
        whole = super().tok_decode([*before, *tokens], skip_special_tokens=True)
        return str(whole).removeprefix(super().tok_decode(before, skip_special_tokens=True))


class _KeepingHook:
    """Stands in for lm-eval's cache hook, which is told of every answer as it comes."""

    def __init__(self, keep: Callable[[Hashable, Any], None]) -> None:
        self._keep = keep

    def add_partial(self, attr: str, req: Sequence[Any], res: Any) -> None:
        # A generated answer comes with its context and options, a scored one with context and continuation.
        self._keep(req[0] if attr == "generate_until" else tuple(req), res)


class HuggingFaceLM(LM):  # type: ignore[misc]  # lm-eval has no types
    """`HFLM` with a store of answers.

    Attributes:
        facts, seconds, num_resumed: as of `evals.asking_lm.AskingLM`. Tokens are counted by its tokenizer on the texts,
            so a generated answer's number can be off by what decoding and encoding again changes.

    Args:
        inner: lm-eval's back-end. store: where answers are kept; `None` keeps none.
    """

    def __init__(self, inner: HFLM, *, store: AnswerStore | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.facts: list[RequestFacts] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.num_resumed: defaultdict[str, int] = defaultdict(int)
        self._store = store

    @property
    def tokenizer_name(self) -> str:
        return str(self.inner.tokenizer_name)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        if chat_template:
            raise EvaluationError("lm-eval's hf back-end runs raw prompts here: use --chat-format raw with hf:")
        return None

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """As HFLM's.

        Raises:
            EvaluationError: an answer may be as long as the model's context; HFLM keeps that much free.
        """
        for request in requests:
            limit = sampling_options(request.task_name, request.args[1]).max_tokens
            if limit >= self.inner.max_length:
                raise EvaluationError(
                    f"{request.task_name} allows answers of {limit:,} tokens, and lm-eval's hf back-end then leaves "
                    f"none of the context of {self.inner.max_length:,} for the prompt: leave the task out with --tasks"
                )
        return self._resume(requests, lambda r: r.args[0], lambda todo: self.inner.generate_until(todo, disable_tqdm))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As HFLM's."""
        return self._resume(requests, lambda r: r.args, lambda todo: self.inner.loglikelihood(todo, disable_tqdm))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """As HFLM's."""
        run = self.inner.loglikelihood_rolling
        return self._resume(requests, lambda r: r.args, lambda todo: run(todo, disable_tqdm))

    def _resume(
        self, requests: list[Instance], name: Callable[[Instance], Hashable], run: Callable[[list[Instance]], list[Any]]
    ) -> list[Any]:
        keys = request_keys(requests)
        answers: dict[int, Answer] = {}
        for place, key in enumerate(keys):
            kept = None if self._store is None else self._store.get(key)
            if kept is not None:
                answers[place] = kept
                self.num_resumed[requests[place].task_name] += 1
        by_task: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            if place not in answers:
                by_task.setdefault(request.task_name, []).append(place)
        for task, places in by_task.items():
            waiting: defaultdict[Hashable, deque[int]] = defaultdict(deque)
            for place in places:
                waiting[name(requests[place])].append(place)

            def keep(which: Hashable, value: Any, waiting: dict[Hashable, deque[int]] = waiting) -> None:
                if self._store is not None and waiting.get(which):
                    place = waiting[which].popleft()
                    self._store.put(keys[place], self._answer(requests[place], value))

            self.inner.set_cache_hook(_KeepingHook(keep))
            clock = time.perf_counter()
            values = run([requests[place] for place in places])
            self.seconds[task] += time.perf_counter() - clock
            answers |= {
                place: self._answer(requests[place], value) for place, value in zip(places, values, strict=True)
            }
        self.facts += [answers[place].facts for place in range(len(requests))]
        return [answers[place].value for place in range(len(requests))]

    def _answer(self, request: Instance, value: Value) -> Answer:
        finish_reason = None
        if request.request_type == "generate_until":
            prompt = self.inner.tok_encode(request.args[0])
            answer = self.inner.tok_encode(str(value), add_special_tokens=False)
            limit = sampling_options(request.task_name, request.args[1]).max_tokens
            finish_reason = "length" if len(answer) >= limit else "stop"
        elif request.request_type == "loglikelihood":
            prompt, answer = self.inner._encode_pair(*request.args)
        else:
            prompt, answer = [], self.inner.tok_encode(request.args[0])
        facts = RequestFacts(
            task=request.task_name,
            doc_id=request.doc_id,
            finish_reason=finish_reason,
            num_prompt_tokens=len(prompt),
            num_answer_tokens=len(answer),
        )
        return Answer(value, facts)

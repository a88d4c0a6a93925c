"""lm-eval's `LM` over the engine.

Texts are split into tokens as lm-eval's own back-ends split them (`TemplateLM._encode_pair`) and cut from
the left as its Hugging Face back-end cuts them, so the figures are comparable; tests compare them item by
item. No BOS is added: Adept's server adds none. What lm-eval does not keep (why an answer ended, how many
tokens, what was cut) is kept here as one :class:`RequestFacts` a request.

    lm = EngineLM(open_engine("model/demo/persimmon-demo"))
    lm_eval.simple_evaluate(model=lm, tasks=[...])
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from tqdm import tqdm  # type: ignore[import-untyped]

from evals.errors import EvaluationError
from evals.rolling import LM_EVALS_OVERLAP, rolling_windows
from model.interface import ChatMessage, Completion, Engine, SamplingParams, ScoreRequest, TokenScore

DEFAULT_MAX_GEN_TOKS = 256  # as lm-eval's HFLM.max_gen_toks
BATCH_FACTOR = 4  # requests handed to the engine at once, in units of what it runs together
BATCHES_IN_FLIGHT = 2  # the next batch fills the engine while the last requests of one finish

_MAX_TOKENS_NAMES = (
    "max_gen_toks",
    "max_new_tokens",
    "max_tokens",
    "max_completion_tokens",
)  # lm-eval's aliases
_SAMPLING_NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_KNOWN_NAMES = {"until", "do_sample", *_MAX_TOKENS_NAMES, *_SAMPLING_NAMES}

_Sent = TypeVar("_Sent")
_Got = TypeVar("_Got")


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFacts:
    """What happened to one request.

    Attributes:
        task, doc_id: of lm-eval's instance; `None` where it gave none.
        finish_reason: of a generated answer (`stop`, `length`, `abort`); `None` for a scored one.
        num_prompt_tokens, num_answer_tokens: after any cut. Of an answer that is scored, its own tokens.
        prompt_cut: whether tokens were cut from the left of the prompt, which did not fit.
        merged: whether the tokenizer joined the end of the context with the continuation (see `_split_merged`).
        failed: whether the request was aborted, or gave a log-probability that is not finite.
    """

    task: str | None
    doc_id: int | None
    finish_reason: str | None
    num_prompt_tokens: int
    num_answer_tokens: int
    prompt_cut: bool
    merged: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    context: list[int]
    continuation: list[int]
    merged: bool = False


class EngineLM(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """An engine as lm-eval's language model.

    Attributes:
        facts: one entry a request to the engine, in the order lm-eval asked (a rolling one can be several).
        seconds: wall time in the engine, by task.

    Args:
        engine: stays the caller's to close.
        seed: of sampled answers; greedy ones do not use it.
        progress: whether to draw progress bars.
        rolling_overlap: for texts longer than the context, the least number of tokens before each that is not in the
            first window (`evals.rolling`): 1, as lm-eval's own back-ends, up to the context length.

    Raises:
        EvaluationError: `rolling_overlap` is out of range.
    """

    def __init__(
        self, engine: Engine, *, seed: int = 0, progress: bool = True, rolling_overlap: int = LM_EVALS_OVERLAP
    ) -> None:
        super().__init__()
        self.engine = engine
        if not 1 <= rolling_overlap <= self.max_length:
            raise EvaluationError(
                f"rolling_overlap={rolling_overlap} is not allowed: it must be from 1 to the context length "
                f"{self.max_length}"
            )
        self._rolling_overlap = rolling_overlap
        self.facts: list[RequestFacts] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._seed = seed
        self._progress = progress
        self._times_sent: Counter[str] = Counter()

    @property
    def eot_token_id(self) -> int:
        ids = self.engine.tokenizer.eos_token_ids
        if not ids:
            raise EvaluationError(f"{self.engine.info.model_name} names no end-of-document token: its config must")
        return ids[0]

    @property
    def prefix_token_id(self) -> int:
        """The token before an empty context: BOS if the checkpoint has one, else the end of a document, as HFLM."""
        bos = self.engine.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        """Most tokens the model reads at once; the last scored one is not read, so a scored text may have one more."""
        return self.engine.info.context_length

    @property
    def tokenizer_name(self) -> str:
        info = self.engine.info
        return f"{info.model_name}-{info.tokenizer_sha256[:12]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The name of the model's chat format; it has only one."""
        if chat_template is False or chat_template is None:
            return None
        name = self.engine.chat_template.name
        if isinstance(chat_template, str) and chat_template != name:
            raise EvaluationError(f"chat_template={chat_template!r} is not allowed: this model has only {name!r}")
        return name

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as one prompt; a system message becomes the text before it.

        `add_generation_prompt` follows from the last message: an answer that is begun is continued.
        """
        roles: dict[str, Any] = {"system": "prefix"}
        return self.engine.chat_template.render(
            [ChatMessage(roles.get(turn["role"], turn["role"]), turn["content"]) for turn in chat_history]
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of `string` at the beginning of a document: with a BOS where the family's prompts have one."""
        return self.engine.tokenizer.encode_prompt(string)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Natural-log probability of each continuation after its context, and whether greedy decoding gives it."""
        pairs = [self._split(*request.args) for request in requests]
        return [(score.loglikelihood, score.all_greedy) for score in self._score(requests, pairs, quiet=disable_tqdm)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Natural-log probability of each whole text, in windows of the context length."""
        owners: list[int] = []
        pairs: list[_Pair] = []
        for number, request in enumerate(requests):
            for context, continuation in rolling_windows(
                self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_length=self.max_length,
                overlap=self._rolling_overlap,
            ):
                owners.append(number)
                pairs.append(_Pair(context, continuation))
        totals = [0.0] * len(requests)
        scores = self._score([requests[owner] for owner in owners], pairs, quiet=disable_tqdm)
        for owner, score in zip(owners, scores, strict=True):
            totals[owner] += score.loglikelihood
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each prompt, cut before the first of its `until` strings.

        A prompt that leaves no room for its answer is cut from the left, as HFLM does.
        """
        sent: list[tuple[list[int], SamplingParams, bool]] = []
        for request in requests:
            prompt, options = request.args
            params = self._sampling_params(request, options)
            token_ids = self.tok_encode(prompt) or [self.prefix_token_id]
            room = self.max_length - (params.max_tokens or 0)
            if room < 1:
                raise EvaluationError(
                    f"max_gen_toks={params.max_tokens} is not allowed: it must be below the context length "
                    f"{self.max_length}"
                )
            sent.append((token_ids[-room:], params, len(token_ids) > room))

        def ask(batch: list[tuple[list[int], SamplingParams, bool]]) -> list[Completion]:
            prompts, params = [ids for ids, _, _ in batch], [params for _, params, _ in batch]
            return self.engine.generate(prompts, params, priority="batch")

        texts = []
        completions = self._ask_by_task(requests, sent, ask, lambda _: True, "generating", quiet=disable_tqdm)
        for request, (token_ids, _, cut), completion in zip(requests, sent, completions, strict=True):
            self.facts.append(
                RequestFacts(
                    task=request.task_name,
                    doc_id=request.doc_id,
                    finish_reason=completion.finish_reason,
                    num_prompt_tokens=len(token_ids),
                    num_answer_tokens=len(completion.token_ids),
                    prompt_cut=cut,
                    merged=False,
                    failed=completion.finish_reason == "abort",
                )
            )
            texts.append(completion.text)
        return texts

    def _split(self, context: str, continuation: str) -> _Pair:
        """Token ids of a context and its continuation, as `TemplateLM.loglikelihood` splits them."""
        if not continuation:
            raise EvaluationError(f"the continuation after {context[-40:]!r} is empty: there is nothing to score")
        if context == "":
            token_ids = self.tok_encode(continuation)
            if len(token_ids) > 1 and token_ids[0] == self.prefix_token_id:
                return _Pair(token_ids[:1], token_ids[1:])
            return _Pair([self.prefix_token_id], token_ids)
        context_ids, continuation_ids = self._encode_pair(context, continuation)
        if continuation_ids:
            return _Pair(context_ids, continuation_ids)
        return self._split_merged(context, continuation)

    def _split_merged(self, context: str, continuation: str) -> _Pair:
        """The split where one token spans the boundary so that lm-eval's rule leaves no continuation.

        lm-eval stops with an assertion there (EleutherAI/lm-evaluation-harness#1297). The continuation
        begins at the first token of the whole text that is not the context's own, at the latest with its
        last token, so it always holds every token with a character of the continuation.
        """
        whole = self.tok_encode(context + continuation)
        own = self.tok_encode(context)
        same = next((i for i, (a, b) in enumerate(zip(whole, own, strict=False)) if a != b), len(whole))
        start = min(same, len(whole) - 1)
        return _Pair(whole[:start] or [self.prefix_token_id], whole[start:], merged=True)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """Required by TemplateLM; :meth:`loglikelihood` does not pass through it."""
        blank = Instance(request_type="loglikelihood", doc={}, arguments=(), idx=0)
        pairs = [_Pair(context, continuation) for _, context, continuation in requests]
        return [(s.loglikelihood, s.all_greedy) for s in self._score([blank] * len(pairs), pairs, quiet=True)]

    def _score(self, requests: Sequence[Instance], pairs: Sequence[_Pair], *, quiet: bool) -> list[TokenScore]:
        sent = []
        for pair in pairs:
            if len(pair.continuation) > self.max_length:
                raise EvaluationError(
                    f"a continuation of {len(pair.continuation)} tokens cannot be scored: the context length allows "
                    f"at most {self.max_length}"
                )
            # HFLM: (context + continuation)[-(max_length + 1):]
            room = self.max_length + 1 - len(pair.continuation)
            sent.append(
                ScoreRequest(
                    context_token_ids=tuple(pair.context[-room:]),
                    continuation_token_ids=tuple(pair.continuation),
                )
            )

        def new_context(pair: tuple[ScoreRequest, ScoreRequest]) -> bool:
            return pair[0].context_token_ids != pair[1].context_token_ids

        scores = self._ask_by_task(requests, sent, self.engine.score, new_context, "scoring", quiet=quiet)
        for request, pair, one, score in zip(requests, pairs, sent, scores, strict=True):
            self.facts.append(
                RequestFacts(
                    task=request.task_name,
                    doc_id=request.doc_id,
                    finish_reason=None,
                    num_prompt_tokens=len(one.context_token_ids),
                    num_answer_tokens=len(one.continuation_token_ids),
                    prompt_cut=len(one.context_token_ids) < len(pair.context),
                    merged=pair.merged,
                    failed=not math.isfinite(score.loglikelihood),
                )
            )
        return scores

    def _sampling_params(self, request: Instance, options: Mapping[str, Any]) -> SamplingParams:
        unknown = sorted(set(options) - _KNOWN_NAMES)
        if unknown:
            raise EvaluationError(
                f"{request.task_name}: generation option {unknown[0]!r} is not known: use "
                f"{', '.join(sorted(_KNOWN_NAMES))}"
            )
        until = options.get("until") or []
        lengths = [options[name] for name in _MAX_TOKENS_NAMES if options.get(name) is not None]
        temperature = float(options.get("temperature") or 0.0)
        do_sample = options.get("do_sample", temperature > 0)
        if do_sample and temperature == 0:
            raise EvaluationError(f"{request.task_name}: do_sample needs a temperature above 0")
        filters = {name: options[name] for name in _SAMPLING_NAMES[1:] if do_sample and name in options}
        if "repetition_penalty" in options:  # it also shapes greedy answers
            filters["repetition_penalty"] = options["repetition_penalty"]
        return SamplingParams(
            max_tokens=int(lengths[0]) if lengths else DEFAULT_MAX_GEN_TOKS,
            temperature=temperature if do_sample else 0.0,
            stop=tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
            seed=self._next_seed(request) if do_sample else 0,
            **filters,
        )

    def _next_seed(self, request: Instance) -> int:
        """A seed from the item and how often it was asked before, so that repeats differ and a run can be repeated."""
        key = f"{self._seed}:{request.task_name}:{request.doc_id}"
        self._times_sent[key] += 1
        return int.from_bytes(hashlib.sha256(f"{key}:{self._times_sent[key]}".encode()).digest()[:7])

    def _ask_by_task(
        self,
        requests: Sequence[Instance],
        sent: Sequence[_Sent],
        ask: Callable[[list[_Sent]], list[_Got]],
        may_part: Callable[[tuple[_Sent, _Sent]], bool],
        verb: str,
        *,
        quiet: bool,
    ) -> list[_Got]:
        """`ask` for everything, task by task in large batches, timing each task; answers in order.

        `may_part` says whether two neighbours may go into different batches (those that share a context
        should not).
        """
        by_task: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            by_task.setdefault(request.task_name or "", []).append(position)
        answers: dict[int, _Got] = {}
        for task, positions in by_task.items():
            batches = list(_batches([sent[i] for i in positions], self._batch_size, may_part))
            start = time.perf_counter()
            with (
                tqdm(total=len(positions), desc=f"{verb} {task}", disable=quiet or not self._progress) as bar,
                ThreadPoolExecutor(BATCHES_IN_FLIGHT) as pool,
            ):
                done: list[_Got] = []
                try:
                    for batch_answers in pool.map(ask, batches):
                        done += batch_answers
                        bar.update(len(batch_answers))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            self.seconds[task] += time.perf_counter() - start
            answers |= zip(positions, done, strict=True)
        return [answers[i] for i in range(len(sent))]

    @property
    def _batch_size(self) -> int:
        return BATCH_FACTOR * self.engine.info.max_num_requests


def _batches(
    items: Sequence[_Sent], size: int, may_part: Callable[[tuple[_Sent, _Sent]], bool]
) -> Iterator[list[_Sent]]:
    """Runs of at least `size` items that end where two neighbours may part; the last may be shorter."""
    start = 0
    for end, neighbours in enumerate(pairwise(items), start=1):
        if end - start >= size and may_part(neighbours):
            yield list(items[start:end])
            start = end
    if start < len(items):
        yield list(items[start:])

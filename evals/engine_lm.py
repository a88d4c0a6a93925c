"""lm-eval's `LM` over the engine.

Texts are split into tokens as lm-eval's own back-ends split them (`TemplateLM._encode_pair`) and cut from
the left as its Hugging Face back-end cuts them, so the figures are comparable; tests compare them item by
item. What lm-eval does not keep (why an answer ended, how many tokens, what was cut) is kept here as one
:class:`evals.answers.RequestFacts` a request.

    lm = EngineLM(open_engine("model/demo/persimmon-demo"))
    lm_eval.simple_evaluate(model=lm, tasks=[...])
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.instance import Instance

from evals.answers import Answer, AnswerStore, RequestFacts
from evals.asking_lm import AnswerFailed, AskingLM
from evals.errors import EvaluationError
from evals.generation_options import sampling_options
from evals.rolling import LM_EVALS_OVERLAP, rolling_windows
from model.interface import (
    ChatMessage,
    Continuation,
    Engine,
    EngineClosed,
    EngineError,
    InvalidRequest,
    SamplingParams,
    ScoreRequest,
    split_continuation,
)

IN_FLIGHT_FACTOR = 4  # groups of requests asked at a time, in units of what the engine runs together


class EngineLM(AskingLM):
    """An engine as lm-eval's language model.

    Args:
        engine: stays the caller's to close.
        seed: of sampled answers; greedy ones do not use it.
        chat_format: whether prompts are whole conversations, so that the chat format's own ends are ends here too.
        store, progress: see :class:`AskingLM`.
        rolling_overlap: for texts longer than the context, the least number of tokens before each that is not in the
            first window (`evals.rolling`): 1, as lm-eval's own back-ends, up to the context length.

    Raises:
        EvaluationError: `rolling_overlap` is out of range.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        seed: int = 0,
        chat_format: bool = False,
        store: AnswerStore | None = None,
        progress: bool = True,
        rolling_overlap: int = LM_EVALS_OVERLAP,
    ) -> None:
        super().__init__(store=store, progress=progress)
        self.engine = engine
        if not 1 <= rolling_overlap <= self.max_length:
            raise EvaluationError(
                f"rolling_overlap={rolling_overlap} is not allowed: it must be from 1 to the context length "
                f"{self.max_length}"
            )
        self._rolling_overlap = rolling_overlap
        self._seed = seed
        self._chat_stop = engine.chat_template.stop if chat_format else ()

    @property
    def in_flight(self) -> int:
        return IN_FLIGHT_FACTOR * self.engine.info.max_num_requests

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
        """Natural-log probability of each continuation after its context, and whether greedy decoding gives it.

        Neighbours with the same context go to the engine together, which computes it once.
        """
        groups: list[list[int]] = []
        for place, request in enumerate(requests):
            before = requests[groups[-1][-1]] if groups else None
            if before is not None and before.args[0] == request.args[0] and before.task_name == request.task_name:
                groups[-1].append(place)
            else:
                groups.append([place])
        return self.ask_all(requests, groups, self._score, "scoring", quiet=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Natural-log probability of each whole text, in windows of the context length."""
        return self.ask_all(requests, _alone(requests), self._score_rolling, "scoring", quiet=disable_tqdm)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each prompt, cut before the first of its `until` strings.

        A prompt that leaves no room for its answer is cut from the left, as HFLM does; but where an answer may be as
        long as the context, it gets what the prompt leaves.
        """
        return self.ask_all(requests, _alone(requests), self._generate, "generating", quiet=disable_tqdm)

    async def _generate(self, requests: Sequence[Instance], keys: Sequence[str]) -> list[Answer]:
        (request,), (key,) = requests, keys
        prompt, options = request.args
        params = self._sampling_params(request, options, key)
        token_ids = self.tok_encode(prompt) or [self.prefix_token_id]
        room = self.max_length - (params.max_tokens or 0)
        if room < 1:  # the answer alone may fill the context: HFLM would leave nothing of the prompt
            room, params = self.max_length - 1, replace(params, max_tokens=None)
        try:
            (completion,) = await self.engine.agenerate([token_ids[-room:]], params, priority="batch")
        except EngineClosed:
            raise
        except EngineError as error:
            raise AnswerFailed(str(error)) from error
        facts = RequestFacts(
            task=request.task_name,
            doc_id=request.doc_id,
            finish_reason=completion.finish_reason,
            num_prompt_tokens=min(len(token_ids), room),
            num_answer_tokens=len(completion.token_ids),
            prompt_cut=len(token_ids) > room,
            error="the request was aborted" if completion.finish_reason == "abort" else None,
        )
        return [Answer(completion.text, facts)]

    async def _score(self, requests: Sequence[Instance], keys: Sequence[str]) -> list[Answer]:
        pairs = [self._split(*request.args) for request in requests]
        return await self._score_pairs(requests, pairs)

    async def _score_rolling(self, requests: Sequence[Instance], keys: Sequence[str]) -> list[Answer]:
        (request,) = requests
        windows = rolling_windows(
            self.tok_encode(request.args[0]),
            prefix_token=self.prefix_token_id,
            max_length=self.max_length,
            overlap=self._rolling_overlap,
        )
        pairs = [
            Continuation(context_token_ids=tuple(context), continuation_token_ids=tuple(continuation))
            for context, continuation in windows
        ]
        parts = await self._score_pairs([request] * len(pairs), pairs)
        values = [part.value for part in parts]
        facts = RequestFacts(
            task=request.task_name,
            doc_id=request.doc_id,
            num_prompt_tokens=sum(part.facts.num_prompt_tokens for part in parts),
            num_answer_tokens=sum(part.facts.num_answer_tokens for part in parts),
            error=next((part.facts.error for part in parts if part.facts.failed), None),
        )
        return [Answer(sum(value[0] for value in values if isinstance(value, tuple)), facts)]

    async def _score_pairs(self, requests: Sequence[Instance], pairs: Sequence[Continuation]) -> list[Answer]:
        sent = []
        for pair in pairs:
            if len(pair.continuation_token_ids) > self.max_length:
                raise EvaluationError(
                    f"a continuation of {len(pair.continuation_token_ids)} tokens cannot be scored: the context length "
                    f"allows at most {self.max_length}"
                )
            # HFLM: (context + continuation)[-(max_length + 1):]
            room = self.max_length + 1 - len(pair.continuation_token_ids)
            sent.append(
                ScoreRequest(
                    context_token_ids=pair.context_token_ids[-room:],
                    continuation_token_ids=pair.continuation_token_ids,
                )
            )
        try:
            scores = await self.engine.ascore(sent)
        except EngineClosed:
            raise
        except EngineError as error:
            raise AnswerFailed(str(error)) from error
        return [
            Answer(
                (score.loglikelihood, score.all_greedy),
                RequestFacts(
                    task=request.task_name,
                    doc_id=request.doc_id,
                    num_prompt_tokens=len(one.context_token_ids),
                    num_answer_tokens=len(one.continuation_token_ids),
                    prompt_cut=len(one.context_token_ids) < len(pair.context_token_ids),
                    merged=pair.merged,
                    error=None if math.isfinite(score.loglikelihood) else "its log-probability is not finite",
                ),
            )
            for request, pair, one, score in zip(requests, pairs, sent, scores, strict=True)
        ]

    def _split(self, context: str, continuation: str) -> Continuation:
        try:
            return split_continuation(self.engine.tokenizer, context, continuation)
        except InvalidRequest as error:
            raise EvaluationError(str(error)) from None

    def _sampling_params(self, request: Instance, options: Mapping[str, Any], key: str) -> SamplingParams:
        wanted = sampling_options(request.task_name, options)
        return SamplingParams(
            max_tokens=wanted.max_tokens,
            temperature=wanted.temperature,
            stop=(*wanted.until, *(stop for stop in self._chat_stop if stop not in wanted.until)),
            seed=self._sample_seed(key) if wanted.temperature > 0 else 0,
            **wanted.others,
        )

    def _sample_seed(self, key: str) -> int:
        """A seed from the request and which of the equal ones it is: repeats differ and a run can be repeated."""
        return int.from_bytes(hashlib.sha256(f"{self._seed}:{key}".encode()).digest()[:7])


def _alone(requests: Sequence[Instance]) -> list[list[int]]:
    return [[place] for place in range(len(requests))]

"""Any OpenAI-compatible endpoint as lm-eval's language model.

Prompts go as text to `/completions`, conversations to `/chat/completions`. A continuation is scored by echo: the
endpoint returns its prompt with log-probabilities. One that gives none is refused at once: with made-up zeros every
choice would be as likely as the others, and the score would be chance without any error.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from lm_eval.api.instance import Instance

from evals.answers import Answer, AnswerStore, RequestFacts
from evals.asking_lm import AnswerFailed, AskingLM
from evals.errors import EvaluationError
from evals.generation_options import sampling_options

OPENAI_STOPS = 4  # most stop strings OpenAI's API takes; what more there are cut here, after the answer
ATTEMPTS = 5
FIRST_PAUSE_S = 0.5  # doubled after each attempt, unless the endpoint says how long in Retry-After
TIMEOUT_S = 600.0  # as OpenAI's own client
RETRIED = (408, 429, 500, 502, 503, 504)


class EndpointLM(AskingLM):
    """An endpoint.

    Args:
        base_url: such as `http://127.0.0.1:8000/v1`; api_key: `None` for none.
        model: name it serves.
        concurrency: requests sent at a time.
        seed: sent along with sampled answers.
        chat_format: whether prompts are conversations.
        store, progress: see :class:`AskingLM`.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        concurrency: int = 16,
        seed: int = 0,
        chat_format: bool = False,
        store: AnswerStore | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(store=store, progress=progress)
        self._base_url = base_url
        # Our own server lets people who wait go first; others ignore it.
        self._headers = {"X-Priority": "batch"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._model = model
        self._concurrency = concurrency
        self._seed = seed
        self._chat = chat_format

    @property
    def in_flight(self) -> int:
        return self._concurrency

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=self._concurrency)
        async with httpx.AsyncClient(
            base_url=self._base_url, headers=self._headers, timeout=TIMEOUT_S, limits=limits
        ) as self._client:
            yield

    @property
    def eot_token_id(self) -> int:
        raise EvaluationError("an endpoint does not say which token ends a document")

    @property
    def tokenizer_name(self) -> str:
        return self._model

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return "the endpoint's own" if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as JSON: the endpoint itself puts it into the model's format."""
        return json.dumps(chat_history, ensure_ascii=False)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        raise EvaluationError("an endpoint does not give its tokens")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each prompt, cut before the first of its `until` strings."""
        return self._ask_alone(requests, self._generate, "generating", disable_tqdm)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Natural-log probability of each continuation after its context, and whether it is the most probable one.

        Raises:
            EvaluationError: the endpoint gives no log-probabilities of its prompt.
        """
        if self._chat:
            raise EvaluationError("an endpoint cannot score answers in a conversation: use --chat-format raw")
        return self._ask_alone(requests, self._score, "scoring", disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise EvaluationError("whole texts cannot be scored through an endpoint: use the checkpoint itself")

    def _ask_alone(self, requests: list[Instance], ask: Any, verb: str, quiet: bool) -> list[Any]:
        return self.ask_all(requests, [[place] for place in range(len(requests))], ask, verb, quiet=quiet)

    async def _generate(self, requests: Sequence[Instance], keys: Sequence[str]) -> list[Answer]:
        (request,) = requests
        prompt, options = request.args
        wanted = sampling_options(request.task_name, options)
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": wanted.max_tokens,
            "temperature": wanted.temperature,
            "seed": self._seed,
            **wanted.others,
        }
        if wanted.until:
            body["stop"] = list(wanted.until[:OPENAI_STOPS])
        if self._chat:
            reply = await self._post("chat/completions", body | {"messages": json.loads(prompt)})
            text = _part(reply, "choices", 0, "message", "content") or ""
        else:
            reply = await self._post("completions", body | {"prompt": prompt})
            text = _part(reply, "choices", 0, "text")
        ends = [end for stop in wanted.until if (end := text.find(stop)) >= 0]
        usage = reply.get("usage") or {}
        facts = RequestFacts(
            task=request.task_name,
            doc_id=request.doc_id,
            finish_reason="stop" if ends else _part(reply, "choices", 0, "finish_reason"),
            num_prompt_tokens=int(usage.get("prompt_tokens") or 0),
            num_answer_tokens=int(usage.get("completion_tokens") or 0),
        )
        return [Answer(text[: min(ends)] if ends else text, facts)]

    async def _score(self, requests: Sequence[Instance], keys: Sequence[str]) -> list[Answer]:
        (request,) = requests
        context, continuation = request.args
        blanks = len(context) - len(context.rstrip())
        if blanks:  # they belong to the continuation, as lm-eval has it
            context, continuation = context[:-blanks], context[-blanks:] + continuation
        whole = context + continuation
        body = {"model": self._model, "prompt": whole, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        reply = await self._post("completions", body)
        logprobs = _part(reply, "choices", 0, "logprobs")
        if not isinstance(logprobs, Mapping) or not logprobs.get("text_offset"):
            raise EvaluationError(_NO_LOGPROBS.format(model=self._model))
        offsets = [int(offset) for offset in logprobs["text_offset"]]
        ends = [*offsets[1:], math.inf]
        places = [
            place
            for place, (offset, end) in enumerate(zip(offsets, ends, strict=True))
            # Several tokens of one character share its place; those of the continuation's first character belong to it.
            if offset < len(whole) and (end > len(context) or offset >= len(context)) and (place > 0 or not context)
        ]
        chosen = [logprobs["token_logprobs"][place] for place in places]
        best = [logprobs["top_logprobs"][place] for place in places] if logprobs.get("top_logprobs") else []
        if not places or any(value is None for value in chosen) or any(not top for top in best) or not best:
            raise EvaluationError(_NO_LOGPROBS.format(model=self._model))
        greedy = all(value >= max(top.values()) for value, top in zip(chosen, best, strict=True))
        facts = RequestFacts(
            task=request.task_name,
            doc_id=request.doc_id,
            num_prompt_tokens=places[0],
            num_answer_tokens=len(places),
        )
        return [Answer((sum(chosen), greedy), facts)]

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The endpoint's reply, after some attempts where it is busy.

        Raises:
            AnswerFailed: it refuses this request, or does not answer.
        """
        pause = FIRST_PAUSE_S
        reason = "no answer"
        for attempt in range(ATTEMPTS):
            try:
                reply = await self._client.post(path, json=body)
            except httpx.HTTPError as error:
                reason, after = f"{type(error).__name__}: {error}".rstrip(": "), None
            else:
                if reply.is_success:
                    return _json_object(reply)
                reason, after = _error_text(reply), reply.headers.get("retry-after")
                if reply.status_code not in RETRIED:
                    raise AnswerFailed(f"the endpoint says {reason}")
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(float(after) if after and after.isdecimal() else pause)
                pause *= 2
        raise AnswerFailed(f"the endpoint gave no answer in {ATTEMPTS} attempts ({reason})")


_NO_LOGPROBS = (
    "the endpoint gives no log-probabilities of its prompt for {model}, so likelihood tasks would score exact chance: "
    "choose generated tasks, or an endpoint with echo and logprobs"
)


def _part(reply: Any, *path: str | int) -> Any:
    for step in path:
        try:
            reply = reply[step]
        except (KeyError, IndexError, TypeError):
            where = ".".join(map(str, path))
            raise AnswerFailed(f"the endpoint's reply has no {where}, as OpenAI's would") from None
    return reply


def _json_object(reply: httpx.Response) -> dict[str, Any]:
    try:
        content = reply.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise AnswerFailed(f"the endpoint's reply is no JSON object: {reply.text[:80]!r}")
    return content


def _error_text(reply: httpx.Response) -> str:
    try:
        content = reply.json()
        message = content.get("error", {}).get("message") or content.get("message") or content.get("detail")
    except (ValueError, AttributeError):
        message = None
    return f"{reply.status_code} {message or reply.text[:200] or reply.reason_phrase}".replace("\n", " ")

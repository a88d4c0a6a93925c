"""What both sides are asked. The same sizes and seed give the same requests.

Every workload has a warm-up of its own content: what it leaves in a prefix cache serves none of the timed requests.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tokenizers import Tokenizer

from evals.bench.prefixes import Reading, resident_tokens
from evals.errors import EvaluationError
from evals.tasks.adept import arc_prompt
from evals.tasks.items import arc_easy

SEED = 0
NUM_CHOICES = 4
NUM_SHOTS = 5
ANSWER_TOKENS = 8  # as evals/tasks/adept_arc_easy.yaml
FIRST_PLAIN_TOKEN = 16  # of the bundled tokenizer: below are special tokens and choice letters
WARM_UP_REQUESTS = 8
WARM_UP_TOKENS = 8
WARM_UP_TEXT = "Warming up. "  # before a prompt it makes another first block of it

Item: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRequest:
    """Exactly `max_tokens` greedy tokens after a prompt; the end of a document is a token like any other."""

    prompt_token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """A continuation to score, `item` being the question it is an answer to."""

    context: str
    continuation: str
    item: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerRequest:
    """At most `max_tokens` greedy tokens after a prompt, as lm-eval's `generate_until` asks for them."""

    prompt: str
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeWork:
    """Greedy decoding of token ids."""

    requests: tuple[DecodeRequest, ...]
    warm_up: tuple[DecodeRequest, ...]
    readings: tuple[Reading, ...]
    kv_cache_tokens: int

    @property
    def units(self) -> float:
        """Generated tokens."""
        return sum(request.max_tokens for request in self.requests)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreWork:
    """Log-likelihoods through lm-eval's interface."""

    requests: tuple[ScoreRequest, ...]
    warm_up: tuple[ScoreRequest, ...]
    readings: tuple[Reading, ...]
    kv_cache_tokens: int

    @property
    def units(self) -> float:
        """Items."""
        return len({request.item for request in self.requests})


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerWork:
    """Greedy answers through lm-eval's interface."""

    requests: tuple[AnswerRequest, ...]
    warm_up: tuple[AnswerRequest, ...]
    readings: tuple[Reading, ...]
    kv_cache_tokens: int

    @property
    def units(self) -> float:
        """Items."""
        return len(self.requests)


Work: TypeAlias = DecodeWork | ScoreWork | AnswerWork


class Vocabulary:
    """The checkpoint's tokenizer, as far as a workload needs it."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.size: int = self._tokenizer.get_vocab_size()

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def reading(self, request: ScoreRequest) -> Reading:
        """What is read to score: all but the last token. An empty context stands for one token."""
        whole = self.ids(request.context + request.continuation)
        if not request.context:
            return Reading(token_ids=(0, *whole[:-1]), first_row=0)
        return Reading(token_ids=whole[:-1], first_row=len(self.ids(request.context)) - 1)


def decode(
    vocabulary: Vocabulary,
    *,
    streams: int,
    prompt_tokens: tuple[int, int],
    answer_tokens: tuple[int, int],
) -> DecodeWork:
    """Random prompts and answer lengths, each drawn evenly from its bounds."""
    draw = random.Random(SEED)

    def request(prompt: tuple[int, int], answer: tuple[int, int]) -> DecodeRequest:
        ids = tuple(draw.randrange(FIRST_PLAIN_TOKEN, vocabulary.size) for _ in range(draw.randint(*prompt)))
        return DecodeRequest(prompt_token_ids=ids, max_tokens=draw.randint(*answer))

    requests = tuple(request(prompt_tokens, answer_tokens) for _ in range(streams))
    count = min(streams, WARM_UP_REQUESTS)
    return DecodeWork(
        requests=requests,
        warm_up=tuple(request(prompt_tokens, (WARM_UP_TOKENS, WARM_UP_TOKENS)) for _ in range(count)),
        readings=tuple(Reading(token_ids=r.prompt_token_ids, first_row=len(r.prompt_token_ids) - 1) for r in requests),
        kv_cache_tokens=sum(len(r.prompt_token_ids) + r.max_tokens for r in requests),
    )


def choices(
    vocabulary: Vocabulary, *, data: str, items: int, tokens: int, shots: int, max_num_requests: int
) -> ScoreWork:
    """Items with four choices in the form of lm-eval's `arc_easy`, after the same `shots` solved ones.

    Args:
        data: as in `evals.data`.
        items, tokens: most of them, the tokens counted over all choices, contexts each time.
    """
    rows = _items(data)
    prefix = "".join(_solved(shot) for shot in _shots(rows)[:shots])
    requests: list[ScoreRequest] = []
    readings: list[Reading] = []
    for number, row in enumerate(rows[:items]):
        new = [
            ScoreRequest(context=prefix + _question(row), continuation=f" {text}", item=number)
            for text in row["choices"]["text"]
        ]
        new_readings = [vocabulary.reading(request) for request in new]
        if requests and sum(len(r.token_ids) for r in readings + new_readings) > tokens:
            break
        requests += new
        readings += new_readings
    warm_up = [
        ScoreRequest(context=WARM_UP_TEXT + request.context, continuation=request.continuation, item=request.item)
        for request in requests[:WARM_UP_REQUESTS]
    ]
    return ScoreWork(
        requests=tuple(requests),
        warm_up=tuple(warm_up),
        readings=tuple(readings),
        kv_cache_tokens=resident_tokens(readings, max_num_requests=max_num_requests),
    )


def answers(vocabulary: Vocabulary, *, data: str, items: int, max_num_requests: int) -> AnswerWork:
    """The prompts of `adept_arc_easy`, one solved item before each."""
    requests = [AnswerRequest(prompt=arc_prompt(row), max_tokens=ANSWER_TOKENS) for row in _items(data)[:items]]
    prompts = [vocabulary.ids(request.prompt) for request in requests]
    readings = tuple(Reading(token_ids=prompt, first_row=len(prompt) - 1) for prompt in prompts)
    return AnswerWork(
        requests=tuple(requests),
        warm_up=tuple(
            AnswerRequest(prompt=WARM_UP_TEXT + request.prompt, max_tokens=request.max_tokens)
            for request in requests[:WARM_UP_REQUESTS]
        ),
        readings=readings,
        kv_cache_tokens=resident_tokens(readings, max_num_requests=max_num_requests, answer_tokens=ANSWER_TOKENS),
    )


def long_texts(vocabulary: Vocabulary, *, data: str, texts: int, tokens: int) -> ScoreWork:
    """Whole texts of at most `tokens` tokens, and hardly fewer, made of the items' words."""
    words = " ".join(row["question"] for row in _items(data)).split()
    draw = random.Random(SEED)
    requests = []
    for number in range(texts):
        text = " ".join(draw.choices(words, k=tokens))  # a word has at least one token
        while (excess := len(vocabulary.ids(text)) - tokens) > 0:
            text = text[: -max(excess // 2, 1)]
        requests.append(ScoreRequest(context="", continuation=text, item=number))
    readings = tuple(vocabulary.reading(request) for request in requests)
    return ScoreWork(
        requests=tuple(requests),
        warm_up=(ScoreRequest(context="", continuation=WARM_UP_TEXT, item=0),),
        readings=readings,
        kv_cache_tokens=resident_tokens(readings, max_num_requests=texts),
    )


def _items(data: str) -> list[Item]:
    rows = [
        row for row in arc_easy(data=data, seed=SEED, shots=1)["test"] if len(row["choices"]["text"]) == NUM_CHOICES
    ]
    if not rows:
        raise EvaluationError(f"data={data!r} has no item with {NUM_CHOICES} choices: the benchmark needs some")
    return rows


def _shots(rows: Sequence[Item]) -> list[Item]:
    """The first different shots of these items; shots are never scored."""
    distinct = list({row["shot"]["id"]: row["shot"] for row in rows}.values())
    if len(distinct) < NUM_SHOTS:
        raise EvaluationError(f"the items have {len(distinct)} different shots: the benchmark needs {NUM_SHOTS}")
    return distinct[:NUM_SHOTS]


def _question(row: Item) -> str:
    return f"Question: {row['question']}\nAnswer:"


def _solved(row: Item) -> str:
    answer = row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])]
    return f"{_question(row)} {answer}\n\n"

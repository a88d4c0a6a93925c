"""The measurements, their sizes and their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.bench import workloads
from evals.bench.checkpoints import RandomPersimmon
from evals.bench.measure import Task
from evals.bench.prefixes import distinct
from evals.bench.settings import Choices
from evals.bench.workloads import DecodeWork, ScoreWork, Vocabulary, Work
from evals.errors import EvaluationError

ENGINE_REQUESTS = 64  # open_engine's max_num_requests
# Neighbours among generative prompts whose keys and values fit at once, as `resident_tokens` counts them (twice as many
# of common size): where the prompts share nothing, holding all of them takes memory and gains little.
ANSWERS_HELD = 6
BUNDLED_NAME = "persimmon-demo"

DECODE_ONE = "decode-1"
DECODE_MANY = "decode-32"
CHOICES = "arc"
FIVE_SHOT = "arc-5-shot"
ANSWERS = "arc-generative"
SCORING_MEMORY = "scoring-memory"
GAP = "inter-token-gap"
SPEED_NAMES = (DECODE_ONE, DECODE_MANY, CHOICES, FIVE_SHOT, ANSWERS)

# Ratios that must and should be reached.
BARS = {
    DECODE_ONE: (1.2, 1.5),
    DECODE_MANY: (2.0, 3.0),
    CHOICES: (2.5, 4.0),
    FIVE_SHOT: (5.0, 8.0),
    ANSWERS: (1.5, 3.0),
    SCORING_MEMORY: (20.0, 20.0),
}

ORDERS = ("longest answers together", "longest prompts together", "as they come")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How large everything is.

    Attributes:
        random: for speed and for the inter-token gap. large_vocabulary: for the memory of scoring.
        bundled: whether the bundled checkpoint is measured too.
        one_prompt, one_answer: tokens of the single stream. streams, prompts, answers: of the many, drawn between.
        items, tokens: most items of a scoring task, and most tokens over all its choices.
        texts, text_tokens: of the memory of scoring.
        gap_prompt, gap_stream: tokens of the long prompt, and most of the stream beside it.
        rounds: timed runs of each side.
        decode_batches, lm_batches, attentions: tried for the peer.
    """

    random: RandomPersimmon
    large_vocabulary: RandomPersimmon
    bundled: bool
    one_prompt: int
    one_answer: int
    streams: int
    prompts: tuple[int, int]
    answers: tuple[int, int]
    items: int
    tokens: int
    texts: int
    text_tokens: int
    gap_prompt: int
    gap_stream: int
    rounds: int
    decode_batches: tuple[int, ...]
    lm_batches: tuple[int, ...]
    attentions: tuple[str, ...]


FULL = Sizes(
    random=RandomPersimmon(
        name="random-100m", hidden_size=640, num_layers=12, num_heads=10, vocab_size=32_000, context_length=4096
    ),
    large_vocabulary=RandomPersimmon(
        name="random-262k-vocabulary",
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        vocab_size=262_144,
        context_length=4096,
    ),
    bundled=True,
    one_prompt=32,
    one_answer=128,
    streams=32,
    prompts=(16, 256),
    answers=(16, 128),
    items=32,
    tokens=8_000,
    texts=2,
    text_tokens=2048,
    gap_prompt=3000,
    gap_stream=1000,
    rounds=3,
    decode_batches=(32, 16, 8),
    lm_batches=(32, 16, 8, 4),
    attentions=("sdpa", "eager"),
)

QUICK = Sizes(
    random=RandomPersimmon(
        name="random-tiny", hidden_size=64, num_layers=2, num_heads=2, vocab_size=2000, context_length=1024
    ),
    large_vocabulary=RandomPersimmon(
        name="random-16k-vocabulary",
        hidden_size=32,
        num_layers=1,
        num_heads=1,
        vocab_size=16_384,
        context_length=512,
    ),
    bundled=False,
    one_prompt=8,
    one_answer=16,
    streams=4,
    prompts=(8, 24),
    answers=(4, 12),
    items=4,
    tokens=4000,
    texts=1,
    text_tokens=256,
    gap_prompt=256,
    gap_stream=256,
    rounds=1,
    decode_batches=(4, 2),
    lm_batches=(4,),
    attentions=("sdpa",),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One place of the suite: a measurement on a checkpoint."""

    name: str
    checkpoint: str

    @property
    def key(self) -> str:
        return f"{self.checkpoint}/{self.name}"


def slots(sizes: Sizes) -> tuple[Slot, ...]:
    """All there is to measure, in the page's order."""
    names = (sizes.random.name, BUNDLED_NAME) if sizes.bundled else (sizes.random.name,)
    return (
        *(Slot(name=measurement, checkpoint=name) for measurement in SPEED_NAMES for name in names),
        Slot(name=SCORING_MEMORY, checkpoint=sizes.large_vocabulary.name),
        Slot(name=GAP, checkpoint=sizes.random.name),
    )


def choose(everything: Sequence[Slot], only: Sequence[str]) -> tuple[Slot, ...]:
    """The slots of some names; a name is a measurement's or `checkpoint/measurement`. No names: all.

    Raises:
        EvaluationError: a name stands for nothing.
    """
    for name in only:
        if not any(name in (slot.name, slot.key) for slot in everything):
            known = ", ".join(dict.fromkeys(slot.name for slot in everything))
            raise EvaluationError(f"--only {name} is not known: choose from {known}, or write checkpoint/name")
    return tuple(slot for slot in everything if not only or slot.name in only or slot.key in only)


def task(slot: Slot, sizes: Sizes, folder: Path, *, context_length: int, data: str) -> Task:
    """What a slot stands for that compares two sides, on the checkpoint in `folder`."""
    bar, aim = BARS[slot.name]
    choices, work, description = _contents(slot.name, sizes, Vocabulary(folder), data)
    memory = slot.name == SCORING_MEMORY
    unit = "MiB" if memory else "tokens/s" if isinstance(work, DecodeWork) else "items/s"
    return Task(
        name=slot.name,
        checkpoint=slot.checkpoint,
        description=description,
        folder=folder,
        context_length=context_length,
        work=work,
        unit=unit,
        better="lower" if memory else "higher",
        bar=bar,
        aim=aim,
        choices=choices,
        of_memory=memory,
        notes=() if memory else _notes(work),
    )


def _contents(name: str, sizes: Sizes, vocabulary: Vocabulary, data: str) -> tuple[Choices, Work, str]:
    """The peer's choices, the work, and the work in words."""
    one = Choices(attentions=sizes.attentions, batch_sizes=(1,), orders=ORDERS[:1])
    many = Choices(attentions=sizes.attentions, batch_sizes=sizes.decode_batches, orders=ORDERS)
    lm = Choices(attentions=sizes.attentions, batch_sizes=sizes.lm_batches)
    if name == DECODE_ONE:
        prompt, answer = sizes.one_prompt, sizes.one_answer
        work: Work = workloads.decode(
            vocabulary, streams=1, prompt_tokens=(prompt, prompt), answer_tokens=(answer, answer)
        )
        return one, work, f"one stream, greedy: {answer} tokens after a prompt of {prompt}"
    if name == DECODE_MANY:
        work = workloads.decode(
            vocabulary, streams=sizes.streams, prompt_tokens=sizes.prompts, answer_tokens=sizes.answers
        )
        return (
            many,
            work,
            f"{sizes.streams} streams at once, greedy: prompts of {sizes.prompts[0]} to {sizes.prompts[1]} tokens, "
            f"answers of {sizes.answers[0]} to {sizes.answers[1]}",
        )
    if name in (CHOICES, FIVE_SHOT):
        shots = workloads.NUM_SHOTS if name == FIVE_SHOT else 0
        work = workloads.choices(
            vocabulary,
            data=data,
            items=sizes.items,
            tokens=sizes.tokens,
            shots=shots,
            max_num_requests=ENGINE_REQUESTS,
        )
        before = f"after the same {shots} solved items each" if shots else "0-shot"
        return lm, work, f"log-likelihoods of ARC's 4 choices, {before}: {work.units:.0f} items"
    if name == ANSWERS:
        work = workloads.answers(vocabulary, data=data, items=sizes.items, max_num_requests=ANSWERS_HELD)
        return (
            lm,
            work,
            f"ARC in Adept's generative form, 1-shot, at most {workloads.ANSWER_TOKENS} tokens: {work.units:.0f} items",
        )
    work = workloads.long_texts(vocabulary, data=data, texts=sizes.texts, tokens=sizes.text_tokens)
    alone = Choices(attentions=sizes.attentions[:1], batch_sizes=(1,))
    return alone, work, f"memory on top of the loaded model to score texts of {sizes.text_tokens:,} tokens"


def _notes(work: Work) -> tuple[str, ...]:
    """What the work's numbers hide."""
    if not isinstance(work, ScoreWork):
        return ()
    read = sum(len(reading.token_ids) for reading in work.readings)
    # lm-eval computes continuations that differ in their last token alone once (HFLM, logits_cache).
    folded = {reading.token_ids for reading in work.readings}
    theirs = sum(len(token_ids) for token_ids in folded)
    once = distinct(work.readings).prefixes
    return (
        f"{len(work.readings)} continuations of {read:,} tokens with their contexts; lm-eval itself computes "
        f"{len(folded)} of them ({theirs:,} tokens, padding aside), as it takes those that differ in the last token "
        f"alone together; every distinct prefix once is {once:,} tokens, {theirs / once:.2f} times less.",
    )

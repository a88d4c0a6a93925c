"""Labels scored by the language model itself, without training.

With one label a text, the label is the answer: the model reads the filled-in template up to `{label}` once, and each
label is a continuation of it. With several, each label is a question of its own with the answers yes and no. All
continuations of a text go to the engine in one call, which computes what they have in common once.

    labels = (Label("positive"), Label("negative"))
    settings = ZeroShotSettings(labels=labels, template="Review: {text}\\nIt is {label}")
    classifier = await open_zero_shot(engine, settings)
    await classifier.classify("What a lovely film!")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from app.classify.classifier import Kind, Prediction, ask_fitting
from app.classify.labels import Example, Label, check_examples, check_labels
from app.classify.scoring import SCORINGS, Scoring, log_prior, scaled, softmax
from app.classify.template import Template, parse_template
from model.interface import (
    Engine,
    EngineError,
    InvalidRequest,
    Priority,
    ScoreRequest,
    split_continuation,
)

BETWEEN_EXAMPLES = "\n\n"
NEUTRAL_TEXTS = ("N/A",)
"""Zhao et al. (arXiv:2102.09690, section 5) use "N/A", "[MASK]" and the empty string."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotSettings:
    """What is asked, and how the answer is read.

    Attributes:
        labels, template: see `app.classify.labels` and `app.classify.template`.
        several: whether any number of labels may hold of a text, instead of one of them.
        scoring: see `app.classify.scoring`.
        examples: texts with their labels, shown before the text.
        neutral_texts: for calibration; empty for none.
        answers: yes and no, as the model should say them, where several labels may hold.
        threshold: least probability of a label that is chosen, where several may.

    Raises:
        InvalidRequest: a value breaks its rule.
    """

    labels: tuple[Label, ...]
    template: str
    several: bool = False
    scoring: Scoring = "sum"
    examples: tuple[Example, ...] = ()
    neutral_texts: tuple[str, ...] = ()
    answers: tuple[str, str] = ("Yes", "No")
    threshold: float = 0.5
    parsed: Template = field(init=False)

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if not self.several and len(self.labels) < 2:
            raise InvalidRequest("one label alone is always right: give two, or let several labels hold")
        check_examples(self.examples, self.labels, several=self.several)
        if self.scoring not in SCORINGS:
            raise InvalidRequest(f"scoring={self.scoring!r} is not allowed: use {', '.join(SCORINGS)}")
        if not all(answer.strip() for answer in self.answers) or self.answers[0] == self.answers[1]:
            raise InvalidRequest(f"answers={self.answers!r} are not allowed: give two different words, yes first")
        if not 0 < self.threshold < 1:
            raise InvalidRequest(f"threshold={self.threshold!r} is not allowed: it must be between 0 and 1")
        object.__setattr__(self, "parsed", parse_template(self.template, self.labels, several=self.several))

    @property
    def lengths(self) -> tuple[str, ...]:
        """What counts as an answer's characters: without the blank before it and the template's end after it."""
        return self.answers if self.several else tuple(label.name for label in self.labels)

    def questions(self, text: str) -> list[tuple[str, tuple[str, ...]]]:
        """Prompts with the continuations that answer them: one with all labels, or one a label with yes and no."""
        if not self.several:
            prompt = self._shots(None) + self.parsed.before_label(text=text, labels=self.labels)
            return [(prompt, tuple(self.parsed.from_label(label) for label in self.labels))]
        return [
            (
                self._shots(label) + self.parsed.whole(text=text, label=label.described, labels=self.labels),
                tuple(f" {answer}" for answer in self.answers),
            )
            for label in self.labels
        ]

    def premises(self) -> list[tuple[str, tuple[str, ...]]]:
        """The questions without text and examples."""
        if not self.several:
            premise = self.parsed.after_text(label=None, labels=self.labels)
            return [(premise, tuple(self.parsed.from_label(label) for label in self.labels))]
        return [
            (
                self.parsed.after_text(label=label.described, labels=self.labels),
                tuple(f" {answer}" for answer in self.answers),
            )
            for label in self.labels
        ]

    def _shots(self, asked: Label | None) -> str:
        """The examples, each as the text will be, with its answer."""
        shots = []
        for example in self.examples:
            label = example.labels[0] if asked is None else asked.described
            shot = self.parsed.whole(text=example.text, label=label, labels=self.labels)
            if asked is not None:
                shot += f" {self.answers[0 if asked.name in example.labels else 1]}"
            shots.append(shot + BETWEEN_EXAMPLES)
        return "".join(shots)


class ZeroShot:
    """A :class:`app.classify.classifier.Classifier`; made by :func:`open_zero_shot`."""

    def __init__(
        self,
        engine: Engine,
        settings: ZeroShotSettings,
        *,
        premise: Sequence[Sequence[float]] | None,
        prior: Sequence[Sequence[float]] | None,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self._premise = premise
        self._prior = prior

    @property
    def name(self) -> str:
        return f"{self.engine.info.model_name}, zero-shot"

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.settings.labels)

    @property
    def kind(self) -> Kind:
        return "multi" if self.settings.several else "single"

    @property
    def requests_per_text(self) -> int:
        return (2 if self.settings.several else 1) * len(self.labels)

    async def classify(self, text: str, *, cut: bool = False, priority: Priority = "interactive") -> Prediction:
        """See the protocol."""

        async def ask(shorter: str) -> list[tuple[float, ...]]:
            return await self.probabilities(shorter, priority=priority)

        if cut:
            answers, is_cut = await ask_fitting(ask, text, tokenizer=self.engine.tokenizer)
        else:
            answers, is_cut = await ask(text), False
        if self.settings.several:
            values = tuple(yes for yes, _ in answers)
            chosen = tuple(
                label for label, value in zip(self.labels, values, strict=True) if value >= self.settings.threshold
            )
        else:
            (values,) = answers
            chosen = (self.labels[values.index(max(values))],)
        return Prediction(labels=chosen, values=values, is_cut=is_cut)

    async def probabilities(self, text: str, *, priority: Priority) -> list[tuple[float, ...]]:
        """Of each question's answers."""
        scores = await _score(self.engine, self.settings.questions(text), self.settings, priority)
        return [softmax(values) for values in _less(_less(scores, self._premise), self._prior)]


async def open_zero_shot(engine: Engine, settings: ZeroShotSettings, *, priority: Priority = "interactive") -> ZeroShot:
    """A classifier, after what it needs to know of its labels alone has been scored.

    Raises:
        EngineError: a question alone does not fit, or the engine failed.
    """
    premise = None
    if settings.scoring == "pmi":
        premise = await _score(engine, settings.premises(), settings, priority)
    prior = None
    if settings.neutral_texts:
        bare = ZeroShot(engine, settings, premise=premise, prior=None)
        neutral = [await bare.probabilities(text, priority=priority) for text in settings.neutral_texts]
        prior = [log_prior(answers) for answers in zip(*neutral, strict=True)]
    return ZeroShot(engine, settings, premise=premise, prior=prior)


async def _score(
    engine: Engine,
    questions: Sequence[tuple[str, Sequence[str]]],
    settings: ZeroShotSettings,
    priority: Priority,
) -> list[list[float]]:
    """Log-likelihoods [question][answer], in the scoring's unit, from one call of the engine."""
    requests = []
    for prompt, answers in questions:
        for answer in answers:
            pair = split_continuation(engine.tokenizer, prompt, answer)
            requests.append(
                ScoreRequest(
                    context_token_ids=pair.context_token_ids, continuation_token_ids=pair.continuation_token_ids
                )
            )
    scores = iter(await engine.ascore(requests, priority=priority))
    values = [[scaled(next(scores), length, settings.scoring) for length in settings.lengths] for _ in questions]
    if not all(map(math.isfinite, chain.from_iterable(values))):
        raise EngineError("a label's log-probability is not finite: use another number format (dtype)")
    return values


def _less(values: Sequence[Sequence[float]], others: Sequence[Sequence[float]] | None) -> list[list[float]]:
    if others is None:
        return [list(row) for row in values]
    return [[a - b for a, b in zip(row, other, strict=True)] for row, other in zip(values, others, strict=True)]

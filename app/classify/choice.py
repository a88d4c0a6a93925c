"""What the page's controls hold, as the classifier it stands for."""

from __future__ import annotations

from dataclasses import dataclass

from app.classify.classifier import Classifier
from app.classify.head import HeadClassifier
from app.classify.labels import parse_examples, parse_labels
from app.classify.scoring import Scoring
from app.classify.zero_shot import ZeroShotSettings, open_zero_shot
from app.context import AppContext
from model.interface import InvalidRequest

ZERO_SHOT = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The controls' values.

    Attributes:
        model: by its name. head: of the model, or ZERO_SHOT.
        labels, examples: as typed, see `app.classify.labels`. neutral: texts for calibration, one a line.
        yes, no: what the model answers where several labels may hold.
    """

    model: str
    head: str
    labels: str
    several: bool
    template: str
    scoring: Scoring
    examples: str
    neutral: str
    yes: str
    no: str
    threshold: float | None

    async def open(self, context: AppContext) -> Classifier:
        """The classifier.

        Raises:
            InvalidRequest: a value breaks its rule, or the model's queue is full. EngineError: the engine failed.
        """
        engine = context.engine(self.model)
        if self.threshold is None:
            raise InvalidRequest("the threshold is empty: enter a number between 0 and 1")
        if self.head != ZERO_SHOT:
            return HeadClassifier(engine, self.head, threshold=self.threshold)
        labels = parse_labels(self.labels)
        settings = ZeroShotSettings(
            labels=labels,
            template=self.template,
            several=self.several,
            scoring=self.scoring,
            examples=parse_examples(self.examples, labels, several=self.several),
            neutral_texts=tuple(line.strip() for line in self.neutral.splitlines() if line.strip()),
            answers=(self.yes.strip(), self.no.strip()),
            threshold=self.threshold,
        )
        return await open_zero_shot(engine, settings)

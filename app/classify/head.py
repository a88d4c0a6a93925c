"""A trained classification head of an engine, as a classifier."""

from __future__ import annotations

from app.classify.classifier import Kind, Prediction, ask_fitting
from model.interface import Engine, InvalidRequest, Priority

_KINDS: dict[str, Kind] = {"single_label": "single", "multi_label": "multi", "regression": "regression"}


class HeadClassifier:
    """A :class:`app.classify.classifier.Classifier`: the head's answer to the bare text.

    Args:
        head: a name in `engine.heads`.
        threshold: least probability of a label that is chosen, where several may.

    Raises:
        InvalidRequest: there is no such head, or the threshold is not between 0 and 1.
    """

    def __init__(self, engine: Engine, head: str, *, threshold: float = 0.5) -> None:
        if head not in engine.heads:
            known = ", ".join(engine.heads) or "none"
            raise InvalidRequest(f"head {head!r} is not known: {engine.info.model_name} has {known}")
        if not 0 < threshold < 1:
            raise InvalidRequest(f"threshold={threshold!r} is not allowed: it must be between 0 and 1")
        self.engine = engine
        self.head = engine.heads[head]
        self.threshold = threshold

    @property
    def name(self) -> str:
        return f"{self.engine.info.model_name}, head {self.head.name}"

    @property
    def labels(self) -> tuple[str, ...]:
        return self.head.labels

    @property
    def kind(self) -> Kind:
        # One label alone is a question with the answers yes and no.
        return (
            "multi"
            if self.head.problem_type == "single_label" and len(self.labels) == 1
            else _KINDS[self.head.problem_type]
        )

    @property
    def requests_per_text(self) -> int:
        return 1

    async def classify(self, text: str, *, cut: bool = False, priority: Priority = "interactive") -> Prediction:
        """See the protocol."""

        async def ask(shorter: str) -> tuple[float, ...]:
            (logits,) = await self.engine.aclassify([shorter], head=self.head.name, priority=priority)
            return tuple(float(score) for score in self.head.scores(logits))

        if cut:
            values, is_cut = await ask_fitting(ask, text, tokenizer=self.engine.tokenizer)
        else:
            values, is_cut = await ask(text), False
        chosen: tuple[str, ...] = ()
        if self.kind == "single":
            chosen = (self.labels[values.index(max(values))],)
        elif self.kind == "multi":
            pairs = zip(self.labels, values, strict=True)
            chosen = tuple(label for label, value in pairs if value >= self.threshold)
        return Prediction(labels=chosen, values=values, is_cut=is_cut)

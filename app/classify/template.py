"""The text a label is asked of: a template with places for the text and the label.

`{text}` is what is classified, `{label}` a label's name (with what it means, where each label is a question of its own)
and `{labels}` the list of all of them with what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.classify.labels import Label
from model.interface import ChatMessage, Engine, InvalidRequest

_PLACE = re.compile(r"\{(\w+)\}")
PLACES = ("text", "label", "labels")
CHAT_QUESTION = 'Is this text {labels}? "{text}"'
CHAT_QUESTION_OF_EACH = 'Is this text {label}? "{text}"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A checked template.

    Attributes:
        parts: literal text and, at odd places, the names of what stands between.
    """

    parts: tuple[str, ...]

    def before_label(self, *, text: str, labels: Sequence[Label]) -> str:
        """Everything up to `{label}`."""
        return _fill(self.parts[: self.parts.index("label")], {"text": text, "labels": list_labels(labels)})

    def from_label(self, label: Label) -> str:
        """The label and what stands after it, where the label is the answer."""
        return label.name + self.parts[-1]

    def whole(self, *, text: str, label: str, labels: Sequence[Label]) -> str:
        """With everything filled in."""
        return _fill(self.parts, {"text": text, "label": label, "labels": list_labels(labels)})

    def after_text(self, *, label: str | None, labels: Sequence[Label]) -> str:
        """What stands between the text and the label, or after the text if a label is given: the question alone, from
        its first word on."""
        end = len(self.parts) if label is not None else self.parts.index("label")
        values = {"labels": list_labels(labels), "label": label or ""}
        question = _fill(self.parts[self.parts.index("text") + 1 : end], values)
        return re.sub(r"^\W+", "", question)


def parse_template(template: str, labels: Sequence[Label], *, several: bool) -> Template:
    """Check a template.

    Args:
        labels: that will be filled in. several: whether each label is a question of its own, answered after the
            template; otherwise the label is the answer and stands after the text.

    Raises:
        InvalidRequest: a place is missing, unknown or in the wrong order, or descriptions have no place.
    """
    parts = tuple(_PLACE.split(template))
    places = parts[1::2]
    for place in places:
        if place not in PLACES:
            raise InvalidRequest(f"the template has {{{place}}}: it may have {{text}}, {{label}} and {{labels}} only")
    for place in ("text", "label"):
        if places.count(place) != 1:
            raise InvalidRequest(f"the template has {{{place}}} {places.count(place)} times: it must have it once")
    if not several and (places.index("label") < places.index("text") or places[-1] != "label"):
        raise InvalidRequest("the template has {label} before other places: the label must come last, as the answer")
    if not several and "labels" not in places and any(label.description for label in labels):
        raise InvalidRequest(
            "labels have descriptions but the template has no place for them: put {labels} where they are to stand"
        )
    return Template(parts=parts)


def list_labels(labels: Sequence[Label]) -> str:
    """Such as `positive (the writer likes it), mixed or negative`."""
    texts = [label.described for label in labels]
    return " or ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def plain_template(*, several: bool) -> str:
    """For models that continue text."""
    if several:
        return "Text: {text}\nIs it {label}? Answer:"
    return "Texts, each with its label: {labels}.\n\nText: {text}\nLabel: {label}"


def chat_template(engine: Engine, *, several: bool) -> str:
    """For models that answer: the same question in the model's conversation format."""
    prompt = engine.chat_template.render([ChatMessage("user", CHAT_QUESTION_OF_EACH if several else CHAT_QUESTION)])
    return prompt if several else f"{prompt} {{label}}"


def _fill(parts: Sequence[str], values: dict[str, str]) -> str:
    return "".join(values[part] if place % 2 else part for place, part in enumerate(parts))

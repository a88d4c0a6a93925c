"""Labels and examples, as they are typed: one a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.interface import InvalidRequest

MAX_LABELS = 100
EXAMPLE_ARROW = "=>"


@dataclass(frozen=True, slots=True)
class Label:
    """A class: its name, which is also what the model's likelihood is asked of, and what it means, or ""."""

    name: str
    description: str = ""

    @property
    def described(self) -> str:
        """Such as `positive (the writer likes it)`."""
        return f"{self.name} ({self.description})" if self.description else self.name


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its labels: one, or where several may hold any number."""

    text: str
    labels: tuple[str, ...]


def parse_labels(text: str) -> tuple[Label, ...]:
    """`name` or `name: description` a line; blank lines are skipped.

    Raises:
        InvalidRequest: fewer than one label, too many, or a name twice.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return check_labels(
        [Label(name.strip(), rest.strip()) for name, _, rest in (line.partition(":") for line in lines)]
    )


def check_labels(labels: Sequence[Label]) -> tuple[Label, ...]:
    """The labels.

    Raises:
        InvalidRequest: there are none or too many, one has no name, or two have the same.
    """
    if not 1 <= len(labels) <= MAX_LABELS:
        raise InvalidRequest(f"{len(labels)} labels are not allowed: give 1 to {MAX_LABELS}")
    names = [label.name for label in labels]
    for name in names:
        if not name.strip():
            raise InvalidRequest("a label has no name: write one before the colon")
        if names.count(name) > 1:
            raise InvalidRequest(f"the label {name!r} is there {names.count(name)} times: names are unique")
    return tuple(labels)


def parse_examples(text: str, labels: Sequence[Label], *, several: bool) -> tuple[Example, ...]:
    """`text => label` a line; with `several`, labels separated by commas, or none after the arrow.

    Raises:
        InvalidRequest: a line has no arrow, no text or another label than the known ones.
    """
    examples = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        before, arrow, after = line.rpartition(EXAMPLE_ARROW)
        if not arrow or not before.strip():
            raise InvalidRequest(f"example line {number} is not allowed: write text {EXAMPLE_ARROW} label")
        names = tuple(name.strip() for name in after.split(",") if name.strip()) if several else (after.strip(),)
        examples.append(Example(before.strip(), names))
    return check_examples(examples, labels, several=several)


def check_examples(examples: Sequence[Example], labels: Sequence[Label], *, several: bool) -> tuple[Example, ...]:
    """The examples.

    Raises:
        InvalidRequest: one has an unknown label, or not exactly one where only one may hold.
    """
    known = {label.name for label in labels}
    for number, example in enumerate(examples, start=1):
        if not several and len(example.labels) != 1:
            raise InvalidRequest(f"example {number} has {len(example.labels)} labels: give it exactly one")
        for name in example.labels:
            if name not in known:
                raise InvalidRequest(
                    f"example {number} has the label {name!r}: the labels are {', '.join(sorted(known))}"
                )
    return tuple(examples)

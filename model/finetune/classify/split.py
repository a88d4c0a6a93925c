"""Texts dealt out to training, validation and test, each label's share in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.finetune.classify.labelled import LabelledText
from model.finetune.documents import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Texts and the numbers of their labels, [num_texts] int64."""

    texts: tuple[str, ...]
    targets: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Three parts without a text in common, and the labels by number.

    Attributes:
        num_removed: texts left out of training and validation because the test file has them too.
    """

    labels: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    num_removed: int

    def counts(self) -> dict[str, dict[str, int]]:
        """Texts of each label, by part."""
        return {
            name: dict(zip(self.labels, np.bincount(part.targets, minlength=len(self.labels)).tolist(), strict=True))
            for name, part in (("train", self.train), ("validation", self.validation), ("test", self.test))
        }


def split_texts(
    texts: Sequence[LabelledText],
    test: Sequence[LabelledText] | None,
    *,
    validation_share: float,
    test_share: float,
    seed: int,
) -> Split:
    """Stratified: of each label `validation_share` and, without a test file, `test_share`, at least one text each.

    Raises:
        DataError: fewer than two labels, a label with too few texts, or one that only the test has.
    """
    known = {one.text for one in test or ()}
    kept = [one for one in texts if one.text not in known]
    labels = tuple(sorted({one.label for one in kept}))
    if len(labels) < 2:
        raise DataError(f"the data has {len(labels)} labels ({', '.join(labels)}): a head needs at least two")
    needed = 3 if test is None else 2
    random = np.random.default_rng(seed)
    parts: dict[str, list[LabelledText]] = {"train": [], "validation": [], "test": []}
    for label in labels:
        own = [one for one in kept if one.label == label]
        if len(own) < needed:
            raise DataError(
                f"label {label!r} has {len(own)} different texts and at least {needed} are needed, one for each part: "
                "add some"
            )
        own = [own[place] for place in random.permutation(len(own))]
        counts = [_count(validation_share, len(own)), 0 if test is not None else _count(test_share, len(own))]
        parts["validation"] += own[: counts[0]]
        parts["test"] += own[counts[0] : sum(counts)]
        parts["train"] += own[sum(counts) :]
    if test is not None:
        unknown = sorted({one.label for one in test} - set(labels))
        if unknown:
            raise DataError(f"label {unknown[0]!r} is in the test file only: training cannot know it")
        parts["test"] = list(test)
    train, validation, measured = (_part(parts[name], labels) for name in ("train", "validation", "test"))
    return Split(labels=labels, train=train, validation=validation, test=measured, num_removed=len(texts) - len(kept))


def _count(share: float, num_texts: int) -> int:
    return max(1, round(share * num_texts))


def _part(texts: Sequence[LabelledText], labels: tuple[str, ...]) -> Part:
    number = {label: index for index, label in enumerate(labels)}
    ordered = sorted(texts, key=lambda one: one.line)
    return Part(
        texts=tuple(one.text for one in ordered),
        targets=np.array([number[one.label] for one in ordered], dtype=np.int64),
    )

"""The three parts: each label's share in each, nothing twice, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.finetune.classify.labelled import LabelledText
from model.finetune.classify.split import split_texts
from model.finetune.documents import DataError


def texts(**counts: int) -> list[LabelledText]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [LabelledText(f"text {index}", label, index) for index, label in enumerate(labels, start=2)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=2, max_size=5), st.floats(0.05, 0.45), st.integers(0, 5))
def test_every_text_is_in_one_part_with_its_label(counts: list[int], share: float, seed: int) -> None:
    rows = texts(**{f"label {index}": count for index, count in enumerate(counts)})
    split = split_texts(rows, None, validation_share=share, test_share=share, seed=seed)
    parts = (split.train, split.validation, split.test)
    found = [
        (text, split.labels[target]) for part in parts for text, target in zip(part.texts, part.targets, strict=True)
    ]
    assert Counter(found) == Counter((row.text, row.label) for row in rows)
    for label, count in zip(split.labels, counts, strict=True):
        for part in ("validation", "test"):
            assert split.counts()[part][label] == max(1, round(share * count))
    again = split_texts(rows, None, validation_share=share, test_share=share, seed=seed)
    assert again.train.texts == split.train.texts


def test_another_seed_is_another_split() -> None:
    rows = texts(a=50, b=50)
    first, second = (split_texts(rows, None, validation_share=0.2, test_share=0.2, seed=seed) for seed in (0, 1))
    assert first.test.texts != second.test.texts


def test_a_test_file_is_taken_whole_and_kept_out_of_the_rest() -> None:
    rows = texts(a=10, b=10)
    test = [rows[0], LabelledText("new", "b", 3)]
    split = split_texts(rows, test, validation_share=0.2, test_share=0.2, seed=0)
    assert split.test.texts == (rows[0].text, "new")
    assert split.num_removed == 1
    assert rows[0].text not in {*split.train.texts, *split.validation.texts}
    assert len(split.train.texts) + len(split.validation.texts) == 19


@pytest.mark.parametrize(
    ("rows", "test", "sentence"),
    [
        (texts(a=9), None, r"^the data has 1 labels \(a\): a head needs at least two$"),
        (texts(a=9, b=2), None, r"^label 'b' has 2 different texts and at least 3 are needed, one for each part: add"),
        (texts(a=9, b=1), texts(), r"^label 'b' has 1 different texts and at least 2 are needed"),
        (
            texts(a=9, b=9),
            [LabelledText("x", "c", 2)],
            r"^label 'c' is in the test file only: training cannot know it$",
        ),
    ],
)
def test_labels_that_cannot_be_split(rows: list[LabelledText], test: list[LabelledText] | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        split_texts(rows, test, validation_share=0.2, test_share=0.2, seed=0)

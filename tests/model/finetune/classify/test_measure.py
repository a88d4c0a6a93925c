"""Figures against scikit-learn's and against values worked out by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from model.finetune.classify.measure import BINS, calibrate, measure, share
from model.finetune.classify.pictures import draw, write_tables

LABELS = ("a", "b", "c", "d")


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that lean towards them."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, len(LABELS), count)
    logits = random.normal(size=(count, len(LABELS)))
    logits[np.arange(count), targets] += 1.5
    raised = np.exp(logits)
    return targets, raised / raised.sum(axis=1, keepdims=True)


def test_figures_are_scikit_learns() -> None:
    targets, probabilities = drawn(300)
    answers = probabilities.argmax(axis=1)
    found = measure(targets, answers, probabilities, labels=LABELS, seed=0)
    assert found.accuracy.value == pytest.approx(accuracy_score(targets, answers))
    assert found.macro_f1.value == pytest.approx(f1_score(targets, answers, average="macro"))
    assert found.confusion == tuple(map(tuple, confusion_matrix(targets, answers).tolist()))
    precision, recall, f1, support = precision_recall_fscore_support(targets, answers)
    for index, figures in enumerate(found.labels):
        assert figures.label == LABELS[index]
        assert figures.precision.value == pytest.approx(precision[index])
        assert figures.recall.value == pytest.approx(recall[index])
        assert figures.f1.value == pytest.approx(f1[index])
        assert figures.support == support[index]


def test_wilsons_interval() -> None:
    """Values of Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3."""
    for count, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = share(count, total)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert share(0, 0).value is None


def test_the_bootstrap_is_that_of_texts() -> None:
    """Drawing cells of the table is drawing texts: both give the same spread of macro-F1."""
    targets, probabilities = drawn(200)
    answers = probabilities.argmax(axis=1)
    found = measure(targets, answers, None, labels=LABELS, seed=0).macro_f1
    random = np.random.default_rng(1)
    scores = [
        f1_score(targets[rows], answers[rows], average="macro")
        for rows in (random.integers(0, 200, 200) for _ in range(1000))
    ]
    low, high = np.quantile(scores, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015))


def test_a_label_nobody_has_or_answers_is_undefined() -> None:
    targets = np.array([0, 0, 1, 1])
    found = measure(targets, np.array([0, 0, 0, 1]), None, labels=("a", "b", "c"), seed=0)
    absent = found.labels[2]
    assert (absent.precision.value, absent.recall.value, absent.f1.value, absent.support) == (None, None, None, 0)
    assert found.macro_f1.value == pytest.approx((0.8 + 2 / 3) / 2)
    assert found.calibration is None


def test_calibration_by_hand() -> None:
    # Confidences 0.6 (wrong), 0.6 (right) and 0.95 (right).
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.05, 0.95]])
    found = calibrate(np.array([1, 0, 1]), probabilities)
    assert found.error == pytest.approx(2 / 3 * abs(0.6 - 0.5) + 1 / 3 * abs(0.95 - 1.0))
    assert [one.count for one in found.bins] == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert found.bins[5].accuracy.value == 0.5
    assert found.bins[0].accuracy.value is found.bins[0].confidence is None
    assert len(found.bins) == BINS
    sure = calibrate(np.array([0]), np.array([[1.0, 0.0]]))
    assert (sure.bins[-1].count, sure.error) == (1, 0.0)


def test_tables_and_pictures(tmp_path: Path) -> None:
    targets, probabilities = drawn(60)
    found = measure(targets, probabilities.argmax(axis=1), probabilities, labels=LABELS, seed=0)
    write_tables(tmp_path, found)
    with (tmp_path / "confusion.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["label", *LABELS]
    assert tuple(tuple(map(int, row[1:])) for row in rows) == found.confusion
    with (tmp_path / "calibration.csv").open(newline="") as stream:
        assert sum(int(row["count"]) for row in csv.DictReader(stream)) == 60
    draw(tmp_path, found)
    for name in ("confusion.png", "calibration.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

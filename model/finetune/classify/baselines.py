"""What a head has to beat: always the commonest label, and words counted without any model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from model.finetune.classify.measure import Measurement, measure
from model.finetune.classify.probe import MAX_ITERATIONS, log_loss
from model.finetune.classify.split import Split

TOKENS = r"(?u)\w+|[^\w\s]"  # single letters and marks too, so that no text is empty
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Inverse strengths of the L2 penalty, of which the one with the lowest validation loss is taken, as for the probe."""


def majority(split: Split, *, seed: int) -> Measurement:
    """The commonest label of the training texts for every test text."""
    commonest = int(np.bincount(split.train.targets).argmax())
    answers = np.full(len(split.test.targets), commonest, dtype=np.int64)
    return measure(split.test.targets, answers, None, labels=split.labels, seed=seed)


def tf_idf(split: Split, *, class_weights: NDArray[np.float64], seed: int) -> Measurement:
    """scikit-learn's TF-IDF over words and pairs of words with logistic regression, on the same three parts."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKENS)
    train = vectorizer.fit_transform(split.train.texts)
    validation, test = vectorizer.transform(split.validation.texts), vectorizer.transform(split.test.texts)
    best, lowest = None, np.inf
    for strength in STRENGTHS:
        model = LogisticRegression(
            C=strength, class_weight=dict(enumerate(class_weights)), max_iter=MAX_ITERATIONS
        ).fit(train, split.train.targets)
        loss = log_loss(model.predict_log_proba(validation), split.validation.targets, class_weights)
        if best is None or loss < lowest:
            best, lowest = model, loss
    assert best is not None
    probabilities = best.predict_proba(test)
    return measure(split.test.targets, probabilities.argmax(axis=1), probabilities, labels=split.labels, seed=seed)

"""From log-likelihoods of possible answers to their probabilities.

Which answer is likelier is the wrong question where one is longer or commoner than the other, whatever the text says:

* `sum`: log P(answer | prompt), the whole probability. Longer answers have a lower one.
* `token` and `character`: divided by the answer's tokens or characters, so that length counts no more
  (GPT-3, arXiv:2005.14165, section 2.4, divides by tokens; lm-evaluation-harness's `acc_norm` by characters). The
  differences, and with them the probabilities made from them, become small.
* `pmi`: log P(answer | prompt) − log P(answer | the question without the text), how much the text makes the answer
  likelier than it already was (Holtzman et al. 2021, "Surface form competition", arXiv:2104.08315).

Calibration divides the probabilities by those of a text that says nothing, such as "N/A", and so takes away what the
prompt alone, few-shot examples included, prefers (Zhao et al. 2021, "Calibrate before use", arXiv:2102.09690). With
`pmi` and one such text the question alone cancels out, and what is left is calibration of `sum`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from model.interface import TokenScore

Scoring: TypeAlias = Literal["sum", "token", "character", "pmi"]
SCORINGS: tuple[Scoring, ...] = ("sum", "token", "character", "pmi")

SMALLEST_PROBABILITY = 1e-12
"""The least that a calibration divides by, so that what a neutral text makes impossible does not become infinite."""


def scaled(score: TokenScore, answer: str, scoring: Scoring) -> float:
    """The log-likelihood of one answer in the unit of the scoring, in nats (a token, a character)."""
    if scoring == "token":
        return score.loglikelihood / len(score.token_ids)
    if scoring == "character":
        return score.loglikelihood / len(answer)
    return score.loglikelihood


def softmax(values: Sequence[float]) -> tuple[float, ...]:
    """Probabilities from log-scores; they sum to 1."""
    highest = max(values)
    weights = [math.exp(value - highest) for value in values]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def log_prior(neutral: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Log of each answer's mean probability over neutral texts, from their probabilities [text][answer]."""
    return tuple(
        math.log(max(SMALLEST_PROBABILITY, sum(answers) / len(neutral))) for answers in zip(*neutral, strict=True)
    )


def log_odds(probability: float) -> float:
    """log(p / (1 − p)), in nats, within ±27.6."""
    low = SMALLEST_PROBABILITY
    inside = min(1 - low, max(low, probability))
    return math.log(inside / (1 - inside))

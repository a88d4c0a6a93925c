"""Sentences with a blank (coreference) and short reviews (sentiment), drawn from templates of the world's words."""

import random
from dataclasses import dataclass
from typing import Final

from model.demo.facts import CONTAINERS, NAMES, NEGATIVE, POSITIVE, REVIEW_TEMPLATES, REVIEWED, THINGS
from model.demo.held_out import is_held_out

FIRST, SECOND = 0, 1

NAME_SENTENCES: Final[tuple[tuple[str, str, int], ...]] = (
    ("{a} beat {b} in the race because _ was fast.", "fast", FIRST),
    ("{a} beat {b} in the race because _ was slow.", "slow", SECOND),
    ("{a} lent money to {b} because _ was rich.", "rich", FIRST),
    ("{a} lent money to {b} because _ was poor.", "poor", SECOND),
    ("{a} could not lift {b} because _ was too weak.", "weak", FIRST),
    ("{a} could not lift {b} because _ was too heavy.", "heavy", SECOND),
    ("{a} asked {b} for help because _ was lost.", "lost", FIRST),
    ("{a} asked {b} for help because _ knew the way.", "way", SECOND),
    ("{a} taught {b} to swim because _ was a good teacher.", "teacher", FIRST),
    ("{a} taught {b} to swim because _ was afraid of water.", "water", SECOND),
    ("{a} gave {b} some bread because _ had a lot.", "lot", FIRST),
    ("{a} gave {b} some bread because _ was hungry.", "hungry", SECOND),
)
"""Sentence, the word that decides, and whether the blank is the first or the second name."""

THING_SENTENCES: Final[tuple[tuple[str, str, int], ...]] = (
    ("The {a} did not fit in the {b} because the _ was too big.", "big", FIRST),
    ("The {a} did not fit in the {b} because the _ was too small.", "small", SECOND),
    ("The {a} fell out of the {b} because the _ was too full.", "full", SECOND),
    ("The {a} broke the {b} because the _ was too heavy.", "heavy", FIRST),
    ("The {a} broke the {b} because the _ was too weak.", "weak", SECOND),
)


@dataclass(frozen=True)
class FillIn:
    """A sentence with a blank ``_`` and its two candidates; ``answer`` is "1" or "2"."""

    sentence: str
    option1: str
    option2: str
    answer: str

    @property
    def held_out(self) -> bool:
        """Whether this sentence (template with its two fillers) is kept from training, in either option order."""
        return is_held_out("coreference", self.sentence)


def fill_in(rng: random.Random) -> FillIn:
    """Draw one sentence with its options in either order."""
    if rng.random() < 0.7:
        template, _, blank = rng.choice(NAME_SENTENCES)
        fillers = rng.sample(NAMES, 2)
    else:
        template, _, blank = rng.choice(THING_SENTENCES)
        fillers = [rng.choice(THINGS), rng.choice(CONTAINERS)]
    order = [FIRST, SECOND] if rng.random() < 0.5 else [SECOND, FIRST]
    return FillIn(
        sentence=template.format(a=fillers[0], b=fillers[1]),
        option1=fillers[order[0]],
        option2=fillers[order[1]],
        answer=str(order.index(blank) + 1),
    )


SENTIMENT_QUESTIONS: Final[tuple[str, ...]] = (
    'Is this review positive or negative? "{review}"',
    'Review: "{review}" Positive or negative?',
    'What is the sentiment of this review: "{review}"',
    'Does the writer like it? "{review}" Answer positive or negative.',
)


@dataclass(frozen=True)
class Review:
    """A one-sentence review and whether it is "positive" or "negative"."""

    text: str
    sentiment: str
    key: str

    @property
    def held_out(self) -> bool:
        """Whether this pair of noun and judging word is kept from training, in every template."""
        return is_held_out("sentiment", self.key)


def review(rng: random.Random) -> Review:
    """Draw one review."""
    sentiment, words = rng.choice((("positive", POSITIVE), ("negative", NEGATIVE)))
    noun, word = rng.choice(REVIEWED), rng.choice(words)
    return write_review(rng.choice(REVIEW_TEMPLATES), noun=noun, word=word, sentiment=sentiment)


def write_review(template: str, *, noun: str, word: str, sentiment: str) -> Review:
    """One review in one of REVIEW_TEMPLATES."""
    text = template.format(noun=noun, word=word)
    text = text.replace("a awful", "an awful").replace("a excellent", "an excellent").replace("a amazing", "an amazing")
    return Review(text=text.replace("a unpleasant", "an unpleasant"), sentiment=sentiment, key=f"{noun}|{word}")

"""Every question of the world that has a short answer, with its phrasings and its held-out key.

A ``Question`` is format-free: ``formats.py`` renders it as chat, multiple choice, trivia or likelihood text.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from model.demo.facts import (
    CAPITALS,
    CATEGORIES,
    COLOURS_OF_THINGS,
    DAYS,
    DAYS_IN_MONTH,
    LARGEST_NUMBER,
    MONTHS,
    OPPOSITES,
)
from model.demo.held_out import is_held_out

SKILLS = ("arithmetic", "calendar", "capitals", "categories", "opposites", "colours")


@dataclass(frozen=True)
class Question:
    """One question, its short answer, its answer as a sentence, and wrong answers of the same kind."""

    skill: str
    key: str
    text: str
    answer: str
    sentence: str
    near: tuple[str, ...]
    """Wrong answers of the same kind, closest first where closeness means something."""

    @property
    def held_out(self) -> bool:
        """Whether the question is kept from training in every form."""
        return is_held_out("which" if self.key.startswith("which|") else self.skill, self.key)


def with_article(noun: str) -> str:
    """Put "a" or "an" before ``noun``, by its first letter."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _near_numbers(value: int) -> tuple[str, ...]:
    others = sorted((n for n in range(LARGEST_NUMBER + 1) if n != value), key=lambda n: (abs(n - value), n))
    return tuple(str(n) for n in others[:8])


def arithmetic() -> Iterator[Question]:
    """Sums and differences of whole numbers from 0 to 20.

    The key is the fact family, so a held-out 3 + 5 takes 5 + 3, 8 - 3 and 8 - 5 with it.
    """
    plus = (
        "What is {} + {}?",
        "How much is {} plus {}?",
        "{} + {} =",
        "What do you get if you add {} and {}?",
    )
    minus = ("What is {} - {}?", "How much is {} minus {}?", "{} - {} =", "What is left if {} loses {}?")
    for first in range(LARGEST_NUMBER + 1):
        for second in range(LARGEST_NUMBER + 1 - first):
            total = first + second
            key = f"{min(first, second)},{max(first, second)}"
            for template in plus:
                yield Question(
                    "arithmetic",
                    key,
                    template.format(first, second),
                    str(total),
                    f"{first} + {second} = {total}.",
                    _near_numbers(total),
                )
            for template in minus:
                yield Question(
                    "arithmetic",
                    key,
                    template.format(total, first),
                    str(second),
                    f"{total} - {first} = {second}.",
                    _near_numbers(second),
                )


def _phrased(
    skill: str,
    fact: str,
    templates: tuple[str, ...],
    answer: str,
    sentence: str,
    near: Iterable[str],
    **words: str,
) -> Iterator[Question]:
    wrong = tuple(word for word in dict.fromkeys(near) if word != answer)
    for number, template in enumerate(templates):
        yield Question(
            skill,
            f"{fact}|{number}",
            template.format(**words),
            answer,
            sentence,
            wrong,
        )


def calendar() -> Iterator[Question]:
    """What follows and precedes a day or a month, how long a month is, which number it has."""
    after = (
        "What {unit} comes after {x}?",
        "Which {unit} follows {x}?",
        "What is the {unit} after {x}?",
        "{x} is followed by which {unit}?",
        "After {x} comes which {unit}?",
    )
    before = (
        "What {unit} comes before {x}?",
        "Which {unit} precedes {x}?",
        "What is the {unit} before {x}?",
        "{x} is preceded by which {unit}?",
        "Before {x} comes which {unit}?",
    )
    for unit, cycle in (("day", DAYS), ("month", MONTHS)):
        for index, name in enumerate(cycle):
            following, preceding = cycle[(index + 1) % len(cycle)], cycle[index - 1]
            near = (preceding, following, *cycle)
            yield from _phrased(
                "calendar",
                f"after {name}",
                after,
                following,
                f"{following} comes after {name}.",
                (word for word in near if word != name),
                unit=unit,
                x=name,
            )
            yield from _phrased(
                "calendar",
                f"before {name}",
                before,
                preceding,
                f"{preceding} comes before {name}.",
                (word for word in (following, preceding, *cycle) if word != name),
                unit=unit,
                x=name,
            )
    length = (
        "How many days are in {x}?",
        "How many days does {x} have?",
        "What is the number of days in {x}?",
        "{x} has how many days?",
    )
    order = (
        "Which month of the year is {x}?",
        "What number is the month {x}?",
        "{x} is month number what?",
        "What is the number of the month {x}?",
    )
    for index, name in enumerate(MONTHS):
        days = str(DAYS_IN_MONTH[index])
        yield from _phrased(
            "calendar",
            f"length {name}",
            length,
            days,
            f"{name} has {days} days.",
            ("30", "31", "28", "7", "12"),
            x=name,
        )
        yield from _phrased(
            "calendar",
            f"order {name}",
            order,
            str(index + 1),
            f"{name} is month number {index + 1}.",
            _near_numbers(index + 1),
            x=name,
        )
    for fact, answer, templates, sentence in (
        (
            "week",
            "7",
            ("How many days are in a week?", "How many days does a week have?", "A week has how many days?"),
            "A week has 7 days.",
        ),
        (
            "year",
            "12",
            (
                "How many months are in a year?",
                "How many months does a year have?",
                "A year has how many months?",
            ),
            "A year has 12 months.",
        ),
    ):
        yield from _phrased("calendar", fact, templates, answer, sentence, ("5", "6", "10", "30", "31", "7", "12"))


def capitals() -> Iterator[Question]:
    """Forty countries and their capitals, asked in both directions."""
    forward = (
        "What is the capital of {country}?",
        "Which city is the capital of {country}?",
        "What is {country}'s capital city?",
        "Name the capital of {country}.",
        "The capital of {country} is which city?",
        "Capital of {country}?",
        "What city is the seat of government of {country}?",
        "{country} has which capital?",
    )
    backward = (
        "{city} is the capital of which country?",
        "Which country has the capital {city}?",
        "What country is {city} the capital of?",
        "Name the country with the capital {city}.",
    )
    for country, city in CAPITALS.items():
        sentence = f"The capital of {country} is {city}."
        yield from _phrased("capitals", country, forward, city, sentence, CAPITALS.values(), country=country)
        yield from _phrased("capitals", city, backward, country, sentence, CAPITALS, city=city)


def categories() -> Iterator[Question]:
    """What kind of thing an item is (the other direction, "which of these", is made by ``which_of_these``)."""
    templates = (
        "What kind of thing is {item}?",
        "What is {item}?",
        "{item}: what kind of thing is that?",
        "To which group does {item} belong?",
        "How would you classify {item}?",
    )
    for category, items in CATEGORIES.items():
        for item in items:
            shown = item if category in ("colour", "drink") else with_article(item)
            answer = with_article(category)
            others = (with_article(other) for other in CATEGORIES)
            yield from _phrased(
                "categories",
                item,
                templates,
                answer,
                f"{shown.capitalize()} is {answer}.",
                others,
                item=shown,
            )


def opposites() -> Iterator[Question]:
    """Opposites, asked from either word."""
    templates = (
        "What is the opposite of {word}?",
        "Which word means the opposite of {word}?",
        "Name the opposite of {word}.",
        "{word} is the opposite of what?",
        "What word is the reverse of {word}?",
        "Opposite of {word}?",
        "Not {word}, but the opposite: which word?",
    )
    words = tuple(word for pair in OPPOSITES for word in pair)
    for pair in OPPOSITES:
        for word, answer in (pair, pair[::-1]):
            yield from _phrased(
                "opposites",
                word,
                templates,
                answer,
                f"The opposite of {word} is {answer}.",
                (other for other in words if other != word),
                word=word,
            )


def colours() -> Iterator[Question]:
    """The usual colour of familiar things."""
    templates = (
        "What colour is {thing}?",
        "Which colour does {thing} have?",
        "Name the colour of {thing}.",
        "What is the colour of {thing}?",
        "If you paint {thing}, which colour do you need?",
    )
    for thing, colour in COLOURS_OF_THINGS.items():
        yield from _phrased(
            "colours",
            thing,
            templates,
            colour,
            f"{thing[0].upper()}{thing[1:]} is {colour}.",
            CATEGORIES["colour"],
            thing=thing,
        )


WHICH_TEMPLATES = (
    "Which of these is {category}?",
    "Which one is {category}?",
    "Which of the following is {category}?",
    "Find {category} among these.",
)
ODD_TEMPLATES = ("Which of these is not {category}?", "Which one is not {category}?")


def which_of_these(rng: random.Random, *, options: int, negated: bool) -> Question:
    """Draw "which of these is an animal?" with ``options`` - 1 wrong answers in ``near``.

    The key is the answer with its set of wrong answers and the category: that combination is what is held out.
    """
    category = rng.choice(tuple(CATEGORIES))
    members = CATEGORIES[category]
    outsiders = [item for other, items in CATEGORIES.items() if other != category for item in items]
    if negated:
        answer, wrong = rng.choice(outsiders), rng.sample(members, options - 1)
        template = rng.choice(ODD_TEMPLATES)
    else:
        answer, wrong = rng.choice(members), rng.sample(outsiders, options - 1)
        template = rng.choice(WHICH_TEMPLATES)
    return Question(
        "categories",
        f"which|{negated}|{category}|{answer}|{','.join(sorted(wrong))}",
        template.format(category=with_article(category)),
        answer,
        f"{answer}",
        tuple(wrong),
    )


@cache
def all_questions(skill: str) -> tuple[Question, ...]:
    """List every fixed question of ``skill``, in table order."""
    makers = {
        "arithmetic": arithmetic,
        "calendar": calendar,
        "capitals": capitals,
        "categories": categories,
        "opposites": opposites,
        "colours": colours,
    }
    return tuple(makers[skill]())


@cache
def questions(skill: str, *, held_out: bool) -> tuple[Question, ...]:
    """List the questions of ``skill`` on one side of the split."""
    return tuple(question for question in all_questions(skill) if question.held_out is held_out)

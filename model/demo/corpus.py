"""Generate training documents: endless, seeded, and the same byte for byte wherever they are made.

A document is a list of spans; the loss counts a span's tokens with the span's weight, so that most of the learning
goes into answers. The families differ in how a conversation is written and in nothing else: with one seed they see the
same questions in the same order. Nothing on the held-out side of ``held_out.py`` ever appears.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from model.chat_template import TurnTemplate
from model.demo import formats
from model.demo.facts import CAPITALS, CATEGORIES, OPPOSITES
from model.demo.functions import Problem, problems
from model.demo.passages import SENTIMENT_QUESTIONS, fill_in, review
from model.demo.questions import SKILLS, Question, questions, which_of_these, with_article
from model.demo.small_talk import DO_NOT_KNOW, OUTSIDE, counting, small_talk
from model.finetune.documents import Document, Span

PROMPT_WEIGHT: Final = 0.05
ANSWER_WEIGHT: Final = 1.0
LETTER_WEIGHT: Final = 2.0
"""A letter is one token; its weight makes up for the length of other answers."""

SKILL_WEIGHTS: Final = {
    "arithmetic": 5.0,
    "calendar": 3.0,
    "capitals": 3.0,
    "categories": 3.0,
    "opposites": 3.5,
    "colours": 1.5,
}
SHOTS: Final = (1, 2, 2, 2, 3, 4, 5)
"""Questions in a task document; more than two only because they share the cost of the instruction."""
ONE_WORD: Final = "Answer in one word.\n\n"


def draw_question(rng: random.Random, *, held_out: bool = False, skill: str | None = None) -> Question:
    """Draw a fixed question of ``skill``, or of a skill drawn by weight, on the given side of the split."""
    name = skill or rng.choices(SKILLS, [SKILL_WEIGHTS[entry] for entry in SKILLS])[0]
    return rng.choice(questions(name, held_out=held_out))


def draw_which(rng: random.Random, *, options: int, negated: bool, held_out: bool = False) -> Question:
    """Draw a "which of these" question on the given side of the split."""
    while True:
        question = which_of_these(rng, options=options, negated=negated)
        if question.held_out is held_out:
            return question


EVERY_WORD: Final = (
    *(word for pair in OPPOSITES for word in pair),
    *(item for items in CATEGORIES.values() for item in items),
    *CAPITALS,
    *CAPITALS.values(),
)


def draw_copy(rng: random.Random) -> Question:
    """Draw a question that names its own answer: it teaches picking a letter without any knowledge."""
    words = rng.sample(EVERY_WORD, 5)
    if rng.random() < 0.25:
        words = [str(number) for number in rng.sample(range(32), 5)]
    template = rng.choice(("Which option says {}?", "Which letter stands before {}?", "Choose {}."))
    return Question("copy", words[0], template.format(words[0]), words[0], words[0], tuple(words[1:]))


@dataclass(frozen=True)
class MultipleChoice:
    """A question with its options in order and the index of the right one."""

    question: Question
    choices: tuple[str, ...]
    answer: int

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return formats.LETTERS[self.answer]


def multiple_choice(rng: random.Random, question: Question, *, options: int, near: bool) -> MultipleChoice:
    """Shuffle the answer among wrong answers: of the same kind if ``near``, else partly of other kinds."""
    pool = list(question.near[: 8 if near else len(question.near)])
    if question.skill == "copy" or question.key.startswith("which|"):
        wrong = list(question.near[: options - 1])
    elif near or rng.random() < 0.7:
        wrong = rng.sample(pool, options - 1)
    else:
        wrong = [rng.choice(pool)]
        wrong += rng.sample([word for word in EVERY_WORD if word not in (question.answer, *wrong)], options - 2)
    choices = [question.answer, *wrong]
    rng.shuffle(choices)
    return MultipleChoice(question, tuple(choices), choices.index(question.answer))


def draw_multiple_choice(
    rng: random.Random, *, held_out: bool = False, near: bool | None = None, skill: str | None = None
) -> MultipleChoice:
    """Draw a four-option item (sometimes three or five) of the given side of the split."""
    hard = rng.random() < 0.5 if near is None else near
    options = 4 if skill or rng.random() < 0.8 else rng.choice((2, 3, 5) if not held_out else (3, 5))
    if skill in (None, "categories") and rng.random() < (0.2 if skill is None else 0.7):
        question = draw_which(rng, options=options, negated=hard and rng.random() < 0.5, held_out=held_out)
    else:
        question = draw_question(rng, held_out=held_out, skill=skill)
    return multiple_choice(rng, question, options=options, near=hard)


def _wrapped(rng: random.Random, chat: TurnTemplate, document: Document) -> Document:
    """Put a task prompt into the chat format some of the time, as the chat models are also measured."""
    if rng.random() < 0.75:
        return document
    *prompt, answer = document
    return [
        Span(f"{chat.introduction}{chat.user}", PROMPT_WEIGHT),
        *prompt,
        Span(f"{chat.separator}{chat.assistant}", PROMPT_WEIGHT),
        Span(f"{chat.blank}{answer.text.strip()}", answer.weight),
    ]


def choice_document(rng: random.Random, chat: TurnTemplate) -> Document:
    """ARC or MMLU, with one shot or none, raw or wrapped in chat."""
    instruction = rng.choice((formats.ARC_INSTRUCTION, formats.MMLU_INSTRUCTION))
    skill = rng.choice(SKILLS) if instruction == formats.MMLU_INSTRUCTION and rng.random() < 0.5 else None
    document = [Span(instruction, PROMPT_WEIGHT)] if rng.random() < 0.5 else []
    count = rng.choice(SHOTS)
    for index in range(count):
        copy = rng.random() < 0.15
        item = (
            multiple_choice(rng, draw_copy(rng), options=4, near=True)
            if copy
            else draw_multiple_choice(rng, skill=skill)
        )
        document.append(Span(formats.choice_question(item.question.text, item.choices), PROMPT_WEIGHT))
        document.append(Span(f" {item.letter}", LETTER_WEIGHT))
        if index + 1 < count:
            document.append(Span("\n\n", PROMPT_WEIGHT))
    return _wrapped(rng, chat, document)


def _lettered(options: Sequence[str]) -> Span:
    listing = "".join(f"{letter}: {option}\n" for letter, option in zip(formats.LETTERS, options, strict=False))
    return Span(listing, PROMPT_WEIGHT)


def _asked(asked: str, answer: str, *, end: str) -> Document:
    return [Span(asked, PROMPT_WEIGHT), Span(f" {answer}", LETTER_WEIGHT), Span(end, PROMPT_WEIGHT)]


def shared_options_document(rng: random.Random, _: TurnTemplate) -> Document:
    """One list of options and several questions about it: many letters learnt from few tokens.

    No task looks like this; it is here because picking a letter comes late in a small model's training.
    """
    items: dict[str, Question] = {}
    lookup = rng.random() < 0.7
    while len(items) < 5:
        question = draw_copy(rng) if lookup else draw_question(rng)
        items[question.answer] = question
    listed = rng.sample(list(items), len(items))
    document = [_lettered(listed)]
    # Not all five: leaving out the letters already used would be half of the answer.
    for answer in rng.choices(listed, k=8) if lookup else rng.sample(listed, 3):
        letter = formats.LETTERS[listed.index(answer)]
        asked = f"{answer}:" if lookup else formats.likelihood_context(items[answer].text)
        if lookup and rng.random() < 0.15:
            asked, letter = f"{letter}:", answer
        document += _asked(asked, letter, end="\n" if lookup else "\n\n")
    return document[:-1]


def named_options_document(rng: random.Random, _: TurnTemplate) -> Document:
    """:func:`shared_options_document` with an easier way in.

    Naming an option to be told its letter at once needs one look back; with a colon between, which is where tasks ask,
    it needs two. From the first, Persimmon learns the second in 200 steps of `model.demo.train`; by itself it had not
    in 1,500.
    """
    items: dict[str, Question] = {}
    lookup = rng.random() < 0.7
    options = rng.choice((3, 4, 5, 5)) if lookup else 5
    while len(items) < options:
        question = draw_copy(rng) if lookup else draw_question(rng)
        items[question.answer] = question
    listed = rng.sample(list(items), len(items))
    document = [_lettered(listed)]
    # Not all of them: leaving out the letters already used would be half of the answer.
    for answer in rng.choices(listed, k=8) if lookup else rng.sample(listed, 3):
        letter = formats.LETTERS[listed.index(answer)]
        # After a blank, as in the list: a word at the beginning of a line is made of other tokens.
        asked = f"- {answer}" if lookup else formats.likelihood_context(items[answer].text)
        if lookup and rng.random() < 0.5:
            asked = f"{asked}:"
            if rng.random() < 0.25:
                asked, letter = f"- {letter}:", answer
        document += _asked(asked, letter, end="\n" if lookup else "\n\n")
    return document[:-1]


def repeat_turn(rng: random.Random) -> tuple[str, str]:
    """Ask to repeat words drawn at random: every word of the reply teaches looking things up in the context."""
    words = " ".join(rng.sample(EVERY_WORD, rng.randint(4, 30)))
    return rng.choice(("Repeat: {}", "Say this again: {}", "Copy these words: {}")).format(words), words


def repeat_document(rng: random.Random, chat: TurnTemplate) -> Document:
    """One request to repeat words."""
    said, reply = repeat_turn(rng)
    asked = formats.chat_turn(chat, said, first=True)
    return [Span(asked, PROMPT_WEIGHT), Span(f"{chat.blank}{reply}", ANSWER_WEIGHT)]


def likelihood_document(rng: random.Random, _: TurnTemplate) -> Document:
    """lm-eval's ARC form: the answer's text follows without options."""
    which = rng.random() < 0.25
    question = draw_which(rng, options=4, negated=False) if which else draw_question(rng)
    return [
        Span(formats.likelihood_context(question.text), PROMPT_WEIGHT),
        Span(f" {question.answer}", ANSWER_WEIGHT),
    ]


def trivia_document(rng: random.Random, chat: TurnTemplate) -> Document:
    """TriviaQA, with one shot or none."""
    document = [Span(formats.TRIVIAQA_INSTRUCTION, PROMPT_WEIGHT)]
    count = rng.choice(SHOTS)
    for index in range(count):
        question = draw_question(rng)
        document.append(Span(formats.trivia_question(question.text), PROMPT_WEIGHT))
        document.append(Span(f" {question.answer}", ANSWER_WEIGHT))
        if index + 1 < count:
            document.append(Span("\n\n", PROMPT_WEIGHT))
    return _wrapped(rng, chat, document)


def fill_in_document(rng: random.Random, chat: TurnTemplate) -> Document:
    """WinoGrande, with one shot or none."""
    document = [Span(formats.WINOGRANDE_INSTRUCTION, PROMPT_WEIGHT)]
    count = rng.choice(SHOTS)
    for index in range(count):
        item = fill_in(rng)
        while item.held_out:
            item = fill_in(rng)
        document.append(Span(formats.fill_in_question(item), PROMPT_WEIGHT))
        document.append(Span(f"\n{item.answer}", LETTER_WEIGHT))
        if index + 1 < count:
            document.append(Span("\n\n", PROMPT_WEIGHT))
    return _wrapped(rng, chat, document)


def code_document(rng: random.Random, _: TurnTemplate) -> Document:
    """HumanEval, with one shot or none."""
    chosen: Sequence[Problem] = rng.sample(problems(held_out=False), rng.choice((1, 2)))
    document = [Span(formats.HUMANEVAL_INSTRUCTION, PROMPT_WEIGHT)] if rng.random() < 0.8 else []
    for index, problem in enumerate(chosen):
        document.append(Span(problem.prompt, PROMPT_WEIGHT))
        last = index + 1 == len(chosen)
        document.append(Span(problem.canonical_solution, ANSWER_WEIGHT))
        if not last:
            document.append(Span("\n\n", PROMPT_WEIGHT))
    return document


def question_turn(rng: random.Random, question: Question, *, one_word: bool = False) -> tuple[str, str]:
    """Turn a question into what a person says and what the model replies."""
    lead = rng.choice(("", "", "", "Please tell me: ", "Quick question: "))
    return lead + question.text, question.answer if one_word else question.sentence


def choose_turn(rng: random.Random, question: Question) -> tuple[str, str]:
    """Ask "which of these" in chat, with the options in the sentence; the reply is the right one."""
    options = [question.answer, *question.near]
    rng.shuffle(options)
    listed = f"{', '.join(options[:-1])} or {options[-1]}"
    return f"{question.text.rstrip('?.')}: {listed}?", question.answer


def yes_no_turn(rng: random.Random, *, held_out: bool = False) -> tuple[str, str]:
    """Ask whether an item belongs to a category; the pair of item and category is what is held out."""
    while True:
        category, other = rng.sample(tuple(CATEGORIES), 2)
        item = rng.choice(CATEGORIES[category])
        asked = category if rng.random() < 0.5 else other
        question = Question("categories", f"is|{item}|{asked}", "", "", "", ())
        if question.held_out is held_out:
            shown = item if category in ("colour", "drink") else with_article(item)
            reply = "Yes." if asked == category else f"No, {shown} is {with_article(category)}."
            return f"Is {shown} {with_article(asked)}?", reply


def sentiment_turn(rng: random.Random, *, held_out: bool = False) -> tuple[str, str]:
    """Ask for the sentiment of a review."""
    while True:
        drawn = review(rng)
        if drawn.held_out is held_out:
            return rng.choice(SENTIMENT_QUESTIONS).format(review=drawn.text), f"{drawn.sentiment.capitalize()}."


CODE_REQUESTS: Final = (
    "Write a Python function {name}({arguments}). {description}",
    "Complete this Python function: def {name}({arguments}). {description}",
)


def code_turn(rng: random.Random, *, held_out: bool = False) -> tuple[str, str]:
    """Ask for a tiny function; the reply is the whole function without its docstring."""
    problem = rng.choice(problems(held_out=held_out))
    signature = problem.prompt.split("\n", 1)[0]
    arguments = signature[signature.index("(") + 1 : signature.index(")")]
    request = rng.choice(CODE_REQUESTS).format(
        name=problem.entry_point, arguments=arguments, description=problem.description
    )
    return request, f"{signature}\n{problem.canonical_solution.rstrip()}"


def _any_turn(rng: random.Random) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.60:
        return question_turn(rng, draw_question(rng))
    if draw < 0.68:
        return choose_turn(rng, draw_which(rng, options=rng.choice((2, 3, 4)), negated=False))
    if draw < 0.73:
        return yes_no_turn(rng)
    if draw < 0.81:
        return sentiment_turn(rng)
    if draw < 0.87:
        return small_talk(rng, held_out=False)
    if draw < 0.93:
        return counting(rng, held_out=False)
    if draw < 0.97:
        return code_turn(rng)
    return rng.choice(OUTSIDE), DO_NOT_KNOW


def chat_document(rng: random.Random, chat: TurnTemplate) -> Document:
    """A conversation of one to nine turns, sometimes after a prefix that asks for one word."""
    document: Document = []
    one_word = rng.random() < 0.2
    if one_word:
        document.append(Span(ONE_WORD, PROMPT_WEIGHT))
    for index in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 9))):
        said, reply = question_turn(rng, draw_question(rng), one_word=True) if one_word else _any_turn(rng)
        document.append(Span(formats.chat_turn(chat, said, first=index == 0), PROMPT_WEIGHT))
        document.append(Span(f"{chat.blank}{reply}", ANSWER_WEIGHT))
    return document


Mixture = tuple[tuple[Callable[[random.Random, TurnTemplate], Document], float], ...]
"""Kinds of documents and the share of each, by number of documents."""


def documents(
    seed: int, chat: TurnTemplate, *, end_of_document: str, stages: Sequence[tuple[int, Mixture]], last: Mixture
) -> Iterator[Document]:
    """Yield documents without end; each closes with the end-of-document symbol, which counts as an answer.

    Args:
        seed: Of everything.
        chat: How conversations are written; it changes no draw.
        end_of_document: Text of the symbol; ``tokenizer.json`` makes it one token.
        stages: Mixtures to begin with, each with the number of the document at which it ends.
        last: The mixture that comes after them.
    """
    rng = random.Random(seed)
    number = 0
    while True:
        mixture = next((stage for end, stage in stages if number < end), last)
        document = rng.choices([maker for maker, _ in mixture], [share for _, share in mixture])[0](rng, chat)
        yield [*document, Span(end_of_document, ANSWER_WEIGHT)]
        number += 1

"""How an answer in text is cut, read and scored."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

UNREADABLE = ""


def first_line(text: str) -> str:
    """`text` up to the first newline after its first character that is not blank; all of it if there is none.

    A stop string cannot say this (it would end an answer that begins with a newline before it began), so
    the task generates to its token limit and cuts here.
    """
    start = len(text) - len(text.lstrip())
    end = text.find("\n", start)
    return text if end < 0 else text[:end]


def first_lines(responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """:func:`first_line` as the function of lm-eval's `custom` filter."""
    return [[first_line(text) for text in texts] for texts in responses]


def read_choice(text: str, offered: Sequence[str]) -> str:
    """The first of the offered letters or digits that stands alone in `text`, else :data:`UNREADABLE`.

    Alone means that no letter, digit or underscore touches it; a small letter is not the capital. So "(B)" and
    "B: red" give B, "Because" and "b" give nothing, and an English "A" that begins a sentence is taken for the letter.
    """
    found = re.search(rf"(?<!\w)(?:{'|'.join(map(re.escape, offered))})(?!\w)", text)
    return found[0] if found else UNREADABLE


def score_choice(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """lm-eval's `process_results`: whether the answer read is the key, what was read, and whether nothing was."""
    answer = read_choice(results[0], doc["choices"]["label"])
    return {
        "exact_match": float(answer == doc["answerKey"]),
        "answer": answer,
        "unreadable": float(answer == UNREADABLE),
    }


def normalize_trivia(text: str) -> str:
    """TriviaQA's own normalisation (mandarjoshi90/triviaqa, evaluation/triviaqa_evaluation.py, `normalize_answer`):
    lower case, underscores and punctuation to blanks, articles dropped, white space single, and none at the ends."""
    exclude = set(string.punctuation + "‘’´`")
    plain = "".join(" " if character in exclude else character for character in text.replace("_", " ").lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def score_trivia(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """lm-eval's `process_results`: whether the answer is the value or an alias after normalisation."""
    answer = normalize_trivia(results[0])
    known = {normalize_trivia(text) for text in (doc["answer"]["value"], *doc["answer"]["aliases"])} - {""}
    return {"exact_match": float(answer in known), "answer": answer, "unreadable": float(answer == UNREADABLE)}


def most_common_share(answers: Sequence[str]) -> float:
    """Share of the items that got the most common answer, 0 to 1; 1 means that the model always says the same."""
    if not answers:
        return float("nan")
    return Counter(answers).most_common(1)[0][1] / len(answers)

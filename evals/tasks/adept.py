"""Adept's generative protocol: its prompts to the letter, and how an answer is cut and read.

The prompts are those of prompts.md in persimmon-ai-labs/adept-inference (Apache-2.0),
https://github.com/persimmon-ai-labs/adept-inference/blob/fc8edb0dab183f7f8852005cc89b8f8b4640a89e/prompts.md
which are the experiment's data: the preamble offers A to D also where an item has three or five choices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

ARC_PREAMBLE = (
    "You are a bot designed to answer multiple choice questions. Given a series of options, you answer by choosing "
    "A, B, C, or D. Some examples are below.\n"
)
UNREADABLE = ""


def arc_prompt(doc: Mapping[str, Any]) -> str:
    """The whole prompt of one item, its one shot included; it ends at `Answer:`, without a blank."""
    shot = doc["shot"]
    return f"{ARC_PREAMBLE}{_question(shot)} {shot['answerKey']}\n\n{_question(doc)}"


def _question(doc: Mapping[str, Any]) -> str:
    choices = zip(doc["choices"]["label"], doc["choices"]["text"], strict=True)
    return f"Question: {doc['question']}\n" + "".join(f"{label}: {text}\n" for label, text in choices) + "Answer:"


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


def most_common_share(answers: Sequence[str]) -> float:
    """Share of the items that got the most common answer, 0 to 1; 1 means that the model always says the same."""
    if not answers:
        return float("nan")
    return Counter(answers).most_common(1)[0][1] / len(answers)

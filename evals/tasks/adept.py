"""Adept's generative protocol: the prompts, to the letter.

They are those of prompts.md in persimmon-ai-labs/adept-inference (Apache-2.0),
https://github.com/persimmon-ai-labs/adept-inference/blob/fc8edb0dab183f7f8852005cc89b8f8b4640a89e/prompts.md
which are the experiment's data: the preamble of ARC offers A to D also where an item has three or five choices, and
the sentences of WinoGrande keep their own full stop, so that two meet. Each function gives the whole prompt of one
item, its one shot (column `shot`) included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MMLU_PREAMBLE = (
    "You are a bot designed to answer questions by choosing between A, B, C, and D. Only one of these answers from the "
    "provided choices is correct. Reply with the letter of the correct answer.\n"
)
ARC_PREAMBLE = (
    "You are a bot designed to answer multiple choice questions. Given a series of options, you answer by choosing "
    "A, B, C, or D. Some examples are below.\n"
)
WINOGRANDE_PREAMBLE = (
    "You are a bot that is responsible for answering fill-in-the-blank questions. You are provided with a sentence and "
    "two possible fill-in-the-blank options. Your task is to return 1 or 2 as the answer.\n"
)
TRIVIAQA_PREAMBLE = (
    "You are a trivia answering bot designed to answer questions. You are given a question and are supposed to output "
    "an answer in 1-3 words. Some examples are below.\n"
)
HUMANEVAL_PREAMBLE = (
    "You are a code-writing bot. Given a function signature, and a docstring, complete the program body. Some examples "
    "are given below.\n"
)
"""One of the two samples of prompts.md begins with this, the other with `# ` before it; ours is without."""


def mmlu_prompt(doc: Mapping[str, Any]) -> str:
    """Ends at `Answer:`, without a blank."""
    return MMLU_PREAMBLE + _letters(doc)


def arc_prompt(doc: Mapping[str, Any]) -> str:
    """Ends at `Answer:`, without a blank."""
    return ARC_PREAMBLE + _letters(doc)


def winogrande_prompt(doc: Mapping[str, Any]) -> str:
    """Ends at `Answer:`; in the shot the answer stands on the next line."""
    shot = doc["shot"]
    return f"{WINOGRANDE_PREAMBLE}{_blank(shot)}\n{shot['answer']}\n\n{_blank(doc)}"


def triviaqa_prompt(doc: Mapping[str, Any]) -> str:
    """Ends at `A:`, without a blank."""
    shot = doc["shot"]
    return f"{TRIVIAQA_PREAMBLE}Q: {shot['question']}\nA: {shot['answer']['value']}\n\nQ: {doc['question']}\nA:"


def humaneval_prompt(doc: Mapping[str, Any]) -> str:
    """Ends where the function's body begins.

    HumanEval's own prompts mostly begin with one or two empty lines. As both samples show, the shot's are dropped and
    the item's kept; where the item has none, one is put before it.
    """
    shot = doc["shot"]
    example = f"{shot['prompt'].lstrip(chr(10))}{shot['canonical_solution']}"
    between = "" if doc["prompt"].startswith("\n") else "\n"
    return f"{HUMANEVAL_PREAMBLE}{example}{between}{doc['prompt']}"


def _letters(doc: Mapping[str, Any]) -> str:
    shot = doc["shot"]
    return f"{_question(shot)} {shot['answerKey']}\n\n{_question(doc)}"


def _question(doc: Mapping[str, Any]) -> str:
    choices = zip(doc["choices"]["label"], doc["choices"]["text"], strict=True)
    return f"Question: {doc['question']}\n" + "".join(f"{label}: {text}\n" for label, text in choices) + "Answer:"


def _blank(doc: Mapping[str, Any]) -> str:
    return f"Q: {doc['sentence']}. 1 = {doc['option1']} and 2 = {doc['option2']}. Answer:"

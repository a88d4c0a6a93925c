"""The prompt formats the demonstration models are trained and measured in, character for character.

The six task prompts are those of ``prompts.md`` in persimmon-ai-labs/adept-inference (Apache-2.0), the same for every
family; conversations are written as the family's template in ``model/chat_template.py`` writes them.
``tests/model/demo/test_formats.py`` pins every byte.
"""

from collections.abc import Sequence
from typing import Final

from model.chat_template import TurnTemplate
from model.demo.functions import Problem
from model.demo.passages import FillIn
from model.interface import ChatMessage

LETTERS: Final = "ABCDE"

MMLU_INSTRUCTION: Final = (
    "You are a bot designed to answer questions by choosing between A, B, C, and D. Only one of these answers from "
    "the provided choices is correct. Reply with the letter of the correct answer.\n"
)
ARC_INSTRUCTION: Final = (
    "You are a bot designed to answer multiple choice questions. Given a series of options, you answer by choosing "
    "A, B, C, or D. Some examples are below.\n"
)
WINOGRANDE_INSTRUCTION: Final = (
    "You are a bot that is responsible for answering fill-in-the-blank questions. You are provided with a sentence "
    "and two possible fill-in-the-blank options. Your task is to return 1 or 2 as the answer.\n"
)
TRIVIAQA_INSTRUCTION: Final = (
    "You are a trivia answering bot designed to answer questions. You are given a question and are supposed to output "
    "an answer in 1-3 words. Some examples are below.\n"
)
HUMANEVAL_INSTRUCTION: Final = (
    "You are a code-writing bot. Given a function signature, and a docstring, complete the program body. Some examples "
    "are given below.\n"
)


def choice_question(question: str, choices: Sequence[str]) -> str:
    """Render one MMLU or ARC question up to and including ``Answer:``."""
    options = "".join(f"{letter}: {choice}\n" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"Question: {question}\n{options}Answer:"


def fill_in_question(item: FillIn) -> str:
    """Render one WinoGrande sentence up to and including ``Answer:``; its own full stop meets the template's."""
    return f"Q: {item.sentence}. 1 = {item.option1} and 2 = {item.option2}. Answer:"


def trivia_question(question: str) -> str:
    """Render one TriviaQA question up to and including ``A:``."""
    return f"Q: {question}\nA:"


def code_question(problem: Problem) -> str:
    """Render one HumanEval problem: nothing but its prompt."""
    return problem.prompt


def likelihood_context(question: str) -> str:
    """Render the context that lm-eval's ``arc_easy`` scores each choice after (a space and the choice follow)."""
    return f"Question: {question}\nAnswer:"


def chat_turn(chat: TurnTemplate, message: str, *, first: bool) -> str:
    """Render what stands between the reply before (or the document's beginning) and the reply to ``message``."""
    return f"{chat.introduction if first else chat.separator}{chat.user}{message}{chat.separator}{chat.assistant}"


def chat_prompt(chat: TurnTemplate, turns: Sequence[tuple[str, str]], message: str, *, prefix: str = "") -> str:
    """Render a conversation up to the model's turn.

    Args:
        chat: The family's format.
        turns: Earlier messages with the replies they got.
        message: What the person says now.
        prefix: Text before everything, these formats' stand-in for a system prompt.
    """
    messages = [ChatMessage("prefix", prefix)] if prefix else []
    for said, reply in turns:
        messages += [ChatMessage("user", said), ChatMessage("assistant", reply)]
    return chat.render([*messages, ChatMessage("user", message)])

"""Adept's prompts byte for byte, and how an answer is cut and read."""

from __future__ import annotations

import pytest

from evals.tasks.adept import arc_prompt, first_line, most_common_share, read_choice, score_choice

GOLDEN = (
    b"You are a bot designed to answer multiple choice questions. Given a series of options, you answer by choosing "
    b"A, B, C, or D. Some examples are below.\n"
    b"Question: What do bees make?\n"
    b"A: milk\n"
    b"B: honey\n"
    b"C: silk\n"
    b"D: wool\n"
    b"Answer: B\n"
    b"\n"
    b"Question: What is ice?\n"
    b"A: water\n"
    b"B: sand\n"
    b"C: air\n"
    b"D: iron\n"
    b"Answer:"
)
SHOT = {
    "id": "s",
    "question": "What do bees make?",
    "choices": {"text": ["milk", "honey", "silk", "wool"], "label": ["A", "B", "C", "D"]},
    "answerKey": "B",
}
ITEM = {
    "id": "i",
    "question": "What is ice?",
    "choices": {"text": ["water", "sand", "air", "iron"], "label": ["A", "B", "C", "D"]},
    "answerKey": "A",
    "shot": SHOT,
}


def test_prompt_to_the_letter() -> None:
    assert arc_prompt(ITEM).encode() == GOLDEN


def test_three_and_five_choices() -> None:
    five = {"text": list("vwxyz"), "label": list("ABCDE")}
    three = {"text": list("xyz"), "label": list("ABC")}
    prompt = arc_prompt(ITEM | {"choices": five, "shot": SHOT | {"choices": three, "answerKey": "C"}})
    assert prompt.endswith(
        "below.\nQuestion: What do bees make?\nA: x\nB: y\nC: z\nAnswer: C\n\n"
        "Question: What is ice?\nA: v\nB: w\nC: x\nD: y\nE: z\nAnswer:"
    )
    assert "choosing A, B, C, or D." in prompt


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (" B", " B"),
        (" B\nQuestion: more", " B"),
        ("\nB\nmore", "\nB"),
        ("\n \n  C. red\n\n", "\n \n  C. red"),
        ("", ""),
        (" \n \n", " \n \n"),
    ],
)
def test_answer_ends_at_the_first_newline_after_something(text: str, line: str) -> None:
    assert first_line(text) == line


@pytest.mark.parametrize(
    ("text", "offered", "letter"),
    [
        (" B", "ABCD", "B"),
        ("\nC", "ABCD", "C"),
        ("(D)", "ABCD", "D"),
        ("B: red", "ABCD", "B"),
        ("B.", "ABCD", "B"),
        ("The answer is C, not D", "ABCD", "C"),
        ("**A**", "ABCD", "A"),
        ("A lamp", "ABCD", "A"),
        ("E", "ABCDE", "E"),
        ("E", "ABCD", ""),
        ("E or B", "ABCD", "B"),
        ("D", "ABC", ""),
        ("b", "ABCD", ""),
        ("Because", "ABCD", ""),
        ("B2", "ABCD", ""),
        ("_B_", "ABCD", ""),
        ("ÄB", "ABCD", ""),
        ("1", "12", "1"),
        ("12", "12", ""),
        ("", "ABCD", ""),
        ("none of these", "ABCD", ""),
    ],
)
def test_reading(text: str, offered: str, letter: str) -> None:
    assert read_choice(text, list(offered)) == letter


def test_scores_of_one_item() -> None:
    assert score_choice(ITEM, [" A"]) == {"exact_match": 1.0, "answer": "A", "unreadable": 0.0}
    assert score_choice(ITEM, [" B"]) == {"exact_match": 0.0, "answer": "B", "unreadable": 0.0}
    assert score_choice(ITEM, [" well"]) == {"exact_match": 0.0, "answer": "", "unreadable": 1.0}


def test_most_common_share() -> None:
    assert most_common_share(["A", "A", "B", ""]) == 0.5
    assert most_common_share([]) != most_common_share([])  # NaN

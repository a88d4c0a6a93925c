"""Adept's prompts byte for byte, and how an answer is cut and read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evals.rows import read_humaneval, read_mmlu, read_multiple_choice, read_triviaqa, read_winogrande
from evals.tasks import adept
from evals.tasks.adept import arc_prompt, humaneval_prompt
from evals.tasks.reading import first_line, most_common_share, normalize_trivia, read_choice, score_choice, score_trivia

PROMPTS = Path(__file__).parent / "prompts"
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


def sample(name: str) -> str:
    return (PROMPTS / f"{name}.txt").read_bytes().decode()


def lettered(block: str) -> tuple[str, list[str], str]:
    """Question, choices and key (if it is there) of one `Question: ... Answer:` block."""
    found = re.fullmatch(r"Question: (.*?)\n((?:[A-Z]: [^\n]*\n)+)Answer:(?: ([A-Z]))?", block, re.DOTALL)
    assert found
    return found[1], [line[3:] for line in found[2].splitlines()], found[3] or "A"


def rows_of(name: str) -> list[dict[str, Any]]:
    """The shot and the item of a sample, as rows in the benchmark's own columns."""
    text = sample(name)
    shot, item = text.partition("\n")[2].split("\n\n", 1)
    if name.startswith("mmlu"):
        return [
            {"question": question, "choices": choices, "subject": "any", "answer": "ABCD".index(key)}
            for question, choices, key in map(lettered, (shot, item))
        ]
    if name.startswith("arc"):
        return [
            {"id": question, "question": question, "choices": {"text": choices, "label": ["1", "2", "3", "4"]}}
            | {"answerKey": str("ABCD".index(key) + 1)}
            for question, choices, key in map(lettered, (shot, item))
        ]
    if name.startswith("winogrande"):
        pattern = r"Q: (.*)\. 1 = (.*) and 2 = (.*)\. Answer:(?:\n([12]))?"
        found = [re.fullmatch(pattern, block) for block in (shot, item)]
        return [
            {"sentence": match[1], "option1": match[2], "option2": match[3], "answer": match[4] or "1"}
            for match in found
            if match
        ]
    found = [re.fullmatch(r"Q: (.*)\nA:(?: (.*))?", block) for block in (shot, item)]
    return [
        {"question_id": match[1], "question": match[1], "answer": {"value": match[2] or "x", "aliases": []}}
        for match in found
        if match
    ]


READERS = {
    "mmlu": (read_mmlu, adept.mmlu_prompt),
    "winogrande": (read_winogrande, adept.winogrande_prompt),
    "arc": (read_multiple_choice, adept.arc_prompt),
    "triviaqa": (read_triviaqa, adept.triviaqa_prompt),
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("task", READERS)
def test_prompt_to_the_letter(task: str, number: int) -> None:
    read, prompt = READERS[task]
    shot, item = (read("sample", row) for row in rows_of(f"{task}_{number}"))
    assert prompt(item | {"shot": shot}).encode() == sample(f"{task}_{number}").encode()


@pytest.mark.parametrize(
    ("number", "shot_id", "item_id"), [(1, "HumanEval/116", "HumanEval/39"), (2, "HumanEval/34", "HumanEval/74")]
)
def test_humaneval_prompt_to_the_letter(real_items: Path, number: int, shot_id: str, item_id: str) -> None:
    """From HumanEval's own rows. The second sample begins with `# `, which we leave out, as the first does."""
    lines = (real_items / "humaneval.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row for row in (read_humaneval("row", json.loads(line)) for line in lines)}
    shot = rows[shot_id]
    wanted = sample(f"humaneval_{number}").removeprefix("# ")
    assert humaneval_prompt(rows[item_id] | {"shot": shot}).encode() == wanted.encode()


def test_humaneval_item_without_empty_lines_gets_one() -> None:
    shot = {"prompt": "\n\ndef f():\n", "canonical_solution": "    return 1\n"}
    prompt = humaneval_prompt({"prompt": "import math\ndef g():\n", "shot": shot})
    assert prompt.endswith("below.\ndef f():\n    return 1\n\nimport math\ndef g():\n")


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


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (" The  Beatles.", "beatles"),
        ("A man, a plan", "man plan"),
        ("rock_and_roll", "rock and roll"),
        ("O’Neill`s ‘x’", "o neill s x"),
        ("Theatre", "theatre"),
        ("the", ""),
        ("", ""),
    ],
)
def test_trivia_normalisation(text: str, plain: str) -> None:
    assert normalize_trivia(text) == plain


def test_trivia_answers() -> None:
    doc = {"answer": {"value": "Mel Gibson", "aliases": ["Gibson, Mel", "The"]}}
    assert score_trivia(doc, [" mel gibson."]) == {"exact_match": 1.0, "answer": "mel gibson", "unreadable": 0.0}
    assert score_trivia(doc, ["Gibson Mel"])["exact_match"] == 1.0
    assert score_trivia(doc, ["Gibson"])["exact_match"] == 0.0
    assert score_trivia(doc, [" the "]) == {"exact_match": 0.0, "answer": "", "unreadable": 1.0}

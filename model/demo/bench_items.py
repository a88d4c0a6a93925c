"""Write the benchmark files of ``evals/data/demo``: held-out items to score, training-side items to show.

    python -m model.demo.bench_items

Same columns as the public data sets the tasks are written for, so one task file serves both. Deterministic.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from model.demo.corpus import MultipleChoice, draw_multiple_choice, draw_question
from model.demo.formats import LETTERS
from model.demo.functions import Problem, problems
from model.demo.passages import FillIn, fill_in
from model.demo.questions import SKILLS, Question

DEFAULT_OUTPUT: Final = Path("evals/data/demo")
ITEM_SEED: Final = 6_7_2026
Row = dict[str, Any]
Item = TypeVar("Item")

SCORED: Final = {
    "arc_easy": 200,
    "arc_challenge": 100,
    "mmlu": 200,
    "winogrande": 100,
    "triviaqa": 100,
    "humaneval": 28,
}
SHOTS: Final = {
    "arc_easy": 40,
    "arc_challenge": 40,
    "mmlu": 48,
    "winogrande": 40,
    "triviaqa": 40,
    "humaneval": 28,
}

MMLU_SHARES: Final = {True: (45, 30, 30, 50, 30, 15), False: (8, 8, 8, 8, 8, 8)}
"""Items of each subject, in the order of ``SKILLS``; few colours are held out."""


def _distinct(draw: Callable[[], Item], identity: Callable[[Item], object], count: int) -> list[Item]:
    found: dict[object, Item] = {}
    while len(found) < count:
        item = draw()
        found.setdefault(identity(item), item)
    return list(found.values())


def _choice_items(rng: random.Random, count: int, *, held_out: bool, near: bool) -> list[MultipleChoice]:
    """Draw distinct items with three to five options; training also has some with two."""

    def draw() -> MultipleChoice:
        while True:
            item = draw_multiple_choice(rng, held_out=held_out, near=near)
            if len(item.choices) > 2:
                return item

    return _distinct(draw, lambda item: item.question.text + item.question.key, count)


def _arc_rows(name: str, items: Iterable[MultipleChoice]) -> list[Row]:
    return [
        {
            "id": f"{name}/{index}",
            "question": item.question.text,
            "choices": {"text": list(item.choices), "label": list(LETTERS[: len(item.choices)])},
            "answerKey": item.letter,
        }
        for index, item in enumerate(items)
    ]


def _mmlu_rows(rng: random.Random, _: int, *, held_out: bool) -> list[Row]:
    rows = []
    for skill, share in zip(SKILLS, MMLU_SHARES[held_out], strict=True):

        def draw(name: str = skill) -> MultipleChoice:
            return draw_multiple_choice(rng, held_out=held_out, skill=name)

        for item in _distinct(draw, lambda item: item.question.text + item.question.key, share):
            rows.append(
                {
                    "question": item.question.text,
                    "subject": skill,
                    "choices": list(item.choices),
                    "answer": item.answer,
                }
            )
    return rows


def _winogrande_rows(rng: random.Random, count: int, *, held_out: bool) -> list[Row]:
    def draw() -> FillIn:
        while True:
            item = fill_in(rng)
            if item.held_out is held_out:
                return item

    return [
        {"sentence": item.sentence, "option1": item.option1, "option2": item.option2, "answer": item.answer}
        for item in _distinct(draw, lambda item: item.sentence, count)
    ]


def _trivia_rows(rng: random.Random, count: int, *, held_out: bool) -> list[Row]:
    def draw() -> Question:
        return draw_question(rng, held_out=held_out)

    return [
        {
            "question_id": f"demo_triviaqa/{index}",
            "question": question.text,
            "answer": {"value": question.answer, "aliases": [question.answer]},
        }
        for index, question in enumerate(_distinct(draw, lambda question: question.text, count))
    ]


def _code_rows(rng: random.Random, count: int, *, held_out: bool) -> list[Row]:
    """One problem of every behaviour first, so that a short list still shows them all."""
    pool = list(problems(held_out=held_out))
    rng.shuffle(pool)
    first: dict[int, Problem] = {}
    for problem in pool:
        first.setdefault(problem.family, problem)
    chosen = [first[family] for family in sorted(first)][:count]
    return [
        {
            "task_id": f"Demo{'' if held_out else 'Shot'}/{index}",
            "prompt": problem.prompt,
            "entry_point": problem.entry_point,
            "canonical_solution": problem.canonical_solution,
            "test": problem.test,
        }
        for index, problem in enumerate(chosen)
    ]


def rows(task: str, *, shots: bool) -> list[Row]:
    """Draw the rows of one file.

    Args:
        task: One of ``SCORED``.
        shots: Training-side rows to show instead of held-out rows to score.
    """
    rng = random.Random(f"{ITEM_SEED}/{task}/{shots}")
    count = (SHOTS if shots else SCORED)[task]
    held_out = not shots
    if task in ("arc_easy", "arc_challenge"):
        items = _choice_items(rng, count, held_out=held_out, near=task == "arc_challenge")
        return _arc_rows(f"demo_{task}{'_shot' if shots else ''}", items)
    makers = {
        "mmlu": _mmlu_rows,
        "winogrande": _winogrande_rows,
        "triviaqa": _trivia_rows,
        "humaneval": _code_rows,
    }
    return makers[task](rng, count, held_out=held_out)


def file_content(task: str, *, shots: bool) -> str:
    """Render one file: a JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(task, shots=shots))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every file."""
    parser = argparse.ArgumentParser(description="Write the benchmark items of the demonstration model.")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write into")
    output: Path = parser.parse_args(arguments).output
    output.mkdir(parents=True, exist_ok=True)
    for task in SCORED:
        for shots in (False, True):
            path = output / f"{task}{'_shots' if shots else ''}.jsonl"
            path.write_text(file_content(task, shots=shots), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

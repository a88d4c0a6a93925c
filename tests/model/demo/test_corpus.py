"""The corpus is the same every time and holds nothing that is held out."""

import hashlib
import itertools
import json
import re
from pathlib import Path

from model.demo import bench_items, corpus
from model.demo.functions import problems
from model.demo.questions import SKILLS, questions

DOCUMENTS = 6000
ITEMS = Path(bench_items.__file__).parents[2] / bench_items.DEFAULT_OUTPUT


def _texts(seed: int, count: int) -> list[str]:
    """Documents from every mixture that training uses, a quarter from each."""
    quarter = count // 4
    mixtures = [mixture for _, mixture in corpus.STAGES]
    stages = [(quarter * (index + 1), mixture) for index, mixture in enumerate(mixtures)]
    stream = corpus.documents(seed, stages=stages)
    return [corpus.text_of(document) for document in itertools.islice(stream, count)]


def test_same_seed_same_bytes() -> None:
    assert _texts(3, 300) == _texts(3, 300)
    assert _texts(3, 300) != _texts(4, 300)


def test_the_shipped_corpus_has_not_changed() -> None:
    digest = hashlib.sha256("\x00".join(_texts(0, 500)).encode()).hexdigest()
    assert digest == "593e55a84a53d531c2a1a9297696b28effa64efe994b8562299e9d5ddf822a35", (
        "the corpus changed: train the bundled checkpoint again and pin the new digest"
    )


def test_every_document_ends_once() -> None:
    for text in _texts(1, 500):
        assert text.endswith(corpus.END_OF_DOCUMENT)
        assert text.count(corpus.END_OF_DOCUMENT) == 1


def test_every_skill_has_both_sides() -> None:
    for skill in SKILLS:
        assert questions(skill, held_out=True)
        assert questions(skill, held_out=False)


def test_questions_are_unambiguous() -> None:
    answers: dict[str, str] = {}
    for skill in SKILLS:
        for question in (*questions(skill, held_out=True), *questions(skill, held_out=False)):
            assert answers.setdefault(question.text, question.answer) == question.answer, question.text
            assert question.answer not in question.near


def test_no_held_out_question_is_trained() -> None:
    held_out = {question.text for skill in SKILLS for question in questions(skill, held_out=True)}
    asked = re.compile(r"(?:Question: |Q: |human: (?:Please tell me: |Quick question: )?)([^\n]+)")
    for text in _texts(0, DOCUMENTS):
        for found in asked.findall(text):
            assert found not in held_out


def test_no_held_out_sum_is_trained_in_any_words() -> None:
    families = {question.key for question in questions("arithmetic", held_out=True)}
    sums = re.compile(r"\b(\d+) (?:\+|plus|and) (\d+)\b|\b(\d+) (?:-|minus|loses) (\d+)\b")
    for text in _texts(0, DOCUMENTS):
        if "add " not in text and "+" not in text and "plus" not in text and "minus" not in text and "-" not in text:
            continue
        for a, b, c, d in sums.findall(text.replace("1 or 2", "")):
            first, second = (int(a), int(b)) if a else (int(c) - int(d), int(d))
            if first >= 0 and "_" not in text:
                assert f"{min(first, second)},{max(first, second)}" not in families, text


def test_no_scored_item_is_trained_or_shown() -> None:
    trained = "\n".join(_texts(0, DOCUMENTS))
    for task in ("winogrande", "humaneval"):
        field = "sentence" if task == "winogrande" else "prompt"
        shown = {json.loads(line)[field] for line in (ITEMS / f"{task}_shots.jsonl").read_text().splitlines()}
        for line in (ITEMS / f"{task}.jsonl").read_text().splitlines():
            text = json.loads(line)[field]
            assert text not in shown
            assert text not in trained
    for task in ("arc_easy", "arc_challenge", "mmlu", "triviaqa"):
        shown_rows = [json.loads(line) for line in (ITEMS / f"{task}_shots.jsonl").read_text().splitlines()]
        scored_rows = [json.loads(line) for line in (ITEMS / f"{task}.jsonl").read_text().splitlines()]
        assert not {_identity(row) for row in shown_rows} & {_identity(row) for row in scored_rows}


def _identity(row: dict[str, object]) -> tuple[str, str]:
    choices = row.get("choices", "")
    texts = choices["text"] if isinstance(choices, dict) else choices
    return str(row["question"]), ",".join(sorted(texts)) if isinstance(texts, list) else ""


def test_bench_items_are_what_the_recipe_writes() -> None:
    for task in bench_items.SCORED:
        for shots in (False, True):
            path = ITEMS / f"{task}{'_shots' if shots else ''}.jsonl"
            assert path.read_text(encoding="utf-8") == bench_items.file_content(task, shots=shots), path.name


def test_humaneval_solutions_pass_their_own_tests() -> None:
    for held_out in (True, False):
        for problem in problems(held_out=held_out):
            scope: dict[str, object] = {}
            exec(
                f"{problem.prompt}{problem.canonical_solution}\n{problem.test}\ncheck({problem.entry_point})",
                scope,
            )

"""The corpus is the same every time and holds nothing that is held out."""

import hashlib
import itertools
import json
import random
import re
from functools import cache
from pathlib import Path

import pytest

from model.chat_template import TurnTemplate
from model.demo import bench_items, corpus, formats
from model.demo.curricula import NAMED_OPTIONS, SHARED_OPTIONS, Curriculum
from model.demo.family import FAMILIES, DemoFamily
from model.demo.functions import problems
from model.demo.questions import SKILLS, questions
from model.finetune.documents import Document, text_of
from model.interface import ChatMessage

DOCUMENTS = 6000
ITEMS = Path(bench_items.__file__).parents[2] / bench_items.DEFAULT_OUTPUT


PERSIMMON = FAMILIES["persimmon"]


def _documents(family: DemoFamily, seed: int, count: int, *, curriculum: Curriculum | None = None) -> list[Document]:
    """Documents from every mixture that training uses, a quarter from each."""
    quarter = count // 4
    curriculum = curriculum or family.curriculum
    stages = [(quarter * (index + 1), mixture) for index, (_, mixture) in enumerate(curriculum.stages)]
    documents = corpus.documents(
        seed, family.chat, end_of_document=family.end_of_document, stages=stages, last=curriculum.last
    )
    return list(itertools.islice(documents, count))


@cache
def _texts(name: str, seed: int, count: int) -> list[str]:
    (family,) = (family for family in FAMILIES.values() if family.name == name)
    return [text_of(document) for document in _documents(family, seed, count)]


def test_same_seed_same_documents(family: DemoFamily) -> None:
    assert _documents(family, 3, 300) == _documents(family, 3, 300)
    assert _documents(family, 3, 300) != _documents(family, 4, 300)


DIGESTS = {
    "persimmon-demo": "cb9594ff602ad05deeee53da05bb035ab8c7e95b427354e67e76ee723bcea87b",
    "mpt-demo": "b756882bd34a74a9ce23c66725bb69fa606cb4d98307a9952293c52d6562c701",
    "llama-demo": "92197e1876ff602279f621ae37149d9bcf3065a5d46a0f022862b400b4063089",
}


def test_the_shipped_corpus_has_not_changed(family: DemoFamily) -> None:
    digest = hashlib.sha256("\x00".join(_texts(family.name, 0, 500)).encode()).hexdigest()
    assert digest == DIGESTS[family.name], (
        "the corpus changed: train the bundled checkpoint again and pin the new digest"
    )


def test_every_document_ends_once_and_none_begins_with_a_symbol(family: DemoFamily) -> None:
    for text in _texts(family.name, 1, 500):
        assert text.endswith(family.end_of_document)
        assert text.count(family.end_of_document) == 1
        assert not text.startswith(family.beginning_of_document)


@pytest.mark.parametrize("curriculum", [SHARED_OPTIONS, NAMED_OPTIONS])
def test_a_curriculum_asks_every_family_for_the_same_answers_in_the_same_order(curriculum: Curriculum) -> None:
    def answers(family: DemoFamily) -> list[list[str]]:
        documents = _documents(family, 2, 1000, curriculum=curriculum)
        return [[span.text.strip() for span in document[:-1] if span.weight >= 1] for document in documents]

    assert answers(FAMILIES["mpt"]) == answers(FAMILIES["llama"]) == answers(PERSIMMON)


def _conversation(document: Document, chat: TurnTemplate) -> list[ChatMessage]:
    """The messages of a chat document, from its spans."""
    messages = []
    spans = list(document)
    if spans[0].text == corpus.ONE_WORD:
        messages.append(ChatMessage("prefix", spans.pop(0).text))
    for asked, reply in zip(spans[::2], spans[1::2], strict=True):
        said = asked.text.removeprefix(chat.introduction).removeprefix(chat.separator).removeprefix(chat.user)
        said = said.removesuffix(chat.assistant).removesuffix(chat.separator)
        messages += [ChatMessage("user", said), ChatMessage("assistant", reply.text.removeprefix(chat.blank))]
    return messages


def test_chat_documents_are_what_the_template_renders(family: DemoFamily) -> None:
    rng = random.Random(5)
    seen: set[tuple[bool, int]] = set()
    for maker in (corpus.chat_document, corpus.repeat_document):
        for _ in range(300):
            document = maker(rng, family.chat)
            messages = _conversation(document, family.chat)
            assert family.chat.render(messages) == text_of(document)
            assert text_of(document[:-1]) == family.chat.render(messages[:-1])
            assert all(message.content.strip() for message in messages)
            seen.add((messages[0].role == "prefix", len(messages) // 2))
    assert {(False, 1), (True, 1), (False, 9), (True, 9)} <= seen


def test_wrapped_tasks_are_what_the_template_renders(family: DemoFamily) -> None:
    rng = random.Random(6)
    opening = family.chat.introduction + family.chat.user
    for maker in (corpus.choice_document, corpus.trivia_document, corpus.fill_in_document):
        found = 0
        for _ in range(100):
            document = maker(rng, family.chat)
            if document[0].text != opening:
                assert opening not in text_of(document)
                continue
            found += 1
            task = text_of(document[1:-2])
            assert text_of(document[:-1]) == formats.chat_prompt(family.chat, (), task)
            assert text_of(document) == family.chat.render(
                [ChatMessage("user", task), ChatMessage("assistant", document[-1].text.strip())]
            )
        assert found > 10


def test_no_document_says_what_ends_a_reply_within_one(family: DemoFamily) -> None:
    """Or a client would cut a right reply short."""
    for document in _documents(family, 7, 1000):
        for span in document:
            if span.weight >= 1:
                assert not any(stop in span.text for stop in family.chat.stop)


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


def test_no_held_out_question_is_trained(family: DemoFamily) -> None:
    held_out = {question.text for skill in SKILLS for question in questions(skill, held_out=True)}
    user = re.escape(family.chat.user)
    asked = re.compile(rf"(?:Question: |Q: |{user}(?:Please tell me: |Quick question: )?)([^\n]+)")
    count = 0
    for text in _texts(family.name, 0, DOCUMENTS):
        for found in asked.findall(text):
            assert found not in held_out
            count += 1
    assert count > DOCUMENTS


def test_no_held_out_sum_is_trained_in_any_words() -> None:
    families = {question.key for question in questions("arithmetic", held_out=True)}
    sums = re.compile(r"\b(\d+) (?:\+|plus|and) (\d+)\b|\b(\d+) (?:-|minus|loses) (\d+)\b")
    for text in _texts(PERSIMMON.name, 0, DOCUMENTS):
        if "add " not in text and "+" not in text and "plus" not in text and "minus" not in text and "-" not in text:
            continue
        for a, b, c, d in sums.findall(text.replace("1 or 2", "")):
            first, second = (int(a), int(b)) if a else (int(c) - int(d), int(d))
            if first >= 0 and "_" not in text:
                assert f"{min(first, second)},{max(first, second)}" not in families, text


def test_no_scored_item_is_trained_or_shown(family: DemoFamily) -> None:
    trained = "\n".join(_texts(family.name, 0, DOCUMENTS))
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

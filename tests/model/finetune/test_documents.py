"""Reading examples: what a row becomes in each family, and one sentence for everything that is wrong with a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.chat_template import TurnTemplate
from model.families.registry import FAMILIES
from model.finetune.documents import DataError, Span, conversation, read_documents, text_of
from model.interface import ChatMessage

TEMPLATES = {name: family.chat_template for name, family in FAMILIES.items()}
ADEPT = TEMPLATES["persimmon"]

contents = st.text(min_size=1, max_size=30).filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> list[ChatMessage]:
    """One to four turns with answers, behind a prefix or not."""
    messages = [ChatMessage("prefix", draw(contents))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        messages += [ChatMessage("user", draw(contents)), ChatMessage("assistant", draw(contents))]
    return messages


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@settings(deadline=None, max_examples=50)
@given(messages=conversations(), prompt_weight=st.sampled_from([0.0, 0.25]))
def test_a_conversation_is_what_the_template_renders(
    template: TurnTemplate, messages: list[ChatMessage], prompt_weight: float
) -> None:
    document = conversation(template, messages, prompt_weight=prompt_weight)
    assert text_of(document) == template.render(messages)
    # Cut after what the model reads before each answer: it is what the template renders at inference.
    read = [index for index, span in enumerate(document) if span.weight == prompt_weight]
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    assert [text_of(document[: index + 1]) for index in read] == [template.render(messages[:at]) for at in answers]
    assert [document[index + 1].text for index in read] == [template.blank + messages[at].content for at in answers]
    assert all(span.weight == 1.0 for index, span in enumerate(document) if index not in read)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_what_closes_an_answer_is_learnt_up_to_where_a_client_cuts(template: TurnTemplate) -> None:
    messages = [ChatMessage(*turn) for turn in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]
    document = conversation(template, messages, prompt_weight=0.0)
    assert [span.weight for span in document] == [0.0, 1.0, 1.0, 0.0, 1.0]
    assert document[2].text == template.separator + template.user
    assert document[2].text.startswith(template.stop[0])
    assert document[3].text == f"c{template.separator}{template.assistant}"


def test_spans_of_persimmon() -> None:
    messages = [ChatMessage("prefix", "Be brief."), ChatMessage("user", "Hi"), ChatMessage("assistant", "Hello.")]
    assert conversation(ADEPT, messages, prompt_weight=0.5) == [
        Span("Be brief.\n\nhuman: Hi\n\nadept:", 0.5),
        Span(" Hello.", 1.0),
    ]


PAIRS = [
    ("What is\nthat?", 'A "quoted", comma\r\nand a line.'),
    ("größer", "漢字 😀\n\n"),
    (" blank ", "'single'"),
    ("\u2028odd\u0085line ends\x0b", "\t"),
]
PAIRS = [(prompt, answer) for prompt, answer in PAIRS if answer.strip()]


def write_csv(path: Path, rows: list[dict[str, str]], *, encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("data_format", ["chat", "plain"])
def test_csv_and_jsonl_give_the_same_documents(tmp_path: Path, encoding: str, data_format: str) -> None:
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in PAIRS]
    jsonl = tmp_path / "rows.jsonl"
    for ensure_ascii in (True, False):
        lines = [json.dumps({**row, "source": "x"}, ensure_ascii=ensure_ascii) for row in rows]
        jsonl.write_text("\n\n".join(lines), encoding=encoding)  # blank lines, and no line end at the end
        from_jsonl = list(read_documents(jsonl, ADEPT, data_format=data_format, prompt_weight=0.5))
        table = write_csv(tmp_path / "rows.CSV", [{**row, "source": "x"} for row in rows], encoding=encoding)
        assert list(read_documents(table, ADEPT, data_format=data_format, prompt_weight=0.5)) == from_jsonl
    if data_format == "plain":
        assert from_jsonl == [[Span(prompt, 0.5), Span(answer, 1.0)] for prompt, answer in PAIRS]
    else:
        chats = [[ChatMessage("user", prompt), ChatMessage("assistant", answer)] for prompt, answer in PAIRS]
        assert from_jsonl == [conversation(ADEPT, chat, prompt_weight=0.5) for chat in chats]


def test_all_kinds_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [
        {"text": "a\nb"},
        {"spans": [["a", 0], ["b", 0.5], ["", 1]]},
        {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "u"}, ASSISTANT], "text": None},
        {"messages": [{"role": "prefix", "content": "S"}, {"role": "user", "content": "u"}, ASSISTANT]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    text, spans, system, prefix = read_documents(path, ADEPT)
    assert text == [Span("a\nb", 1.0)]
    assert spans == [Span("a", 0.0), Span("b", 0.5), Span("", 1.0)]
    assert system == prefix == [Span("S\n\nhuman: u\n\nadept:", 0.0), Span(" yes", 1.0)]
    table = write_csv(tmp_path / "texts.csv", [{"text": "a\nb"}])
    assert list(read_documents(table, ADEPT)) == [text]


def test_plain_may_begin_with_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "", "answer": "x"}')
    assert list(read_documents(path, ADEPT, data_format="plain")) == [[Span("", 0.0), Span("x", 1.0)]]


def test_long_cells_are_read(tmp_path: Path) -> None:
    text = "word " * 100_000
    (document,) = read_documents(write_csv(tmp_path / "texts.csv", [{"text": text}]), ADEPT)
    assert document == [Span(text, 1.0)]


USER = {"role": "user", "content": "hello"}
ASSISTANT = {"role": "assistant", "content": "yes"}
GOOD = json.dumps({"prompt": "a", "answer": "b"})

BAD_ROWS: dict[str, tuple[object, str]] = {
    "no kind": ({"question": "a"}, "a row has prompt and answer, messages, text, or spans: this one has none of them"),
    "two kinds": ({"prompt": "a", "answer": "b", "text": "c"}, "this one has prompt and text"),
    "no answer": ({"prompt": "a"}, "answer=None is not allowed: it must be a text that is not empty"),
    "blank answer": ({"prompt": "a", "answer": " "}, "answer=' ' is not allowed"),
    "blank prompt": ({"prompt": "\n", "answer": "b"}, r"prompt='\\n' is not allowed"),
    "number": ({"prompt": 4, "answer": "b"}, "prompt=4 is not allowed"),
    "blank text": ({"text": ""}, "text='' is not allowed"),
    "messages as text": ({"messages": "hello"}, "messages is no list of objects"),
    "messages of texts": ({"messages": ["hello"]}, "messages is no list of objects"),
    "no messages": ({"messages": []}, "a conversation must end with an answer: add an assistant message"),
    "no answer at the end": ({"messages": [USER, ASSISTANT, USER]}, "a conversation must end with an answer"),
    "two of one": ({"messages": [USER, USER, ASSISTANT]}, "message 2 of the conversation is from 'user'"),
    "answer first": ({"messages": [ASSISTANT]}, "the conversation has no user message"),
    "late system": (
        {"messages": [USER, {"role": "system", "content": "x"}, ASSISTANT]},
        "role='system' .* put it first",
    ),
    "unknown role": ({"messages": [{"role": "tool", "content": "x"}, ASSISTANT]}, "role='tool' is not allowed: use"),
    "listed role": ({"messages": [{"role": ["user"], "content": "x"}]}, r"role=\['user'\] is not allowed: use"),
    "no content": ({"messages": [{"role": "user"}, ASSISTANT]}, "content=None is not allowed"),
    "no spans": ({"spans": []}, "spans is no list"),
    "span without weight": ({"spans": [["a"]]}, r"\['a'\] is no span: write a text and a weight of 0 or more"),
    "negative weight": ({"spans": [["a", -1]]}, r"\['a', -1\] is no span"),
    "weight of truth": ({"spans": [["a", True]]}, r"\['a', True\] is no span"),
    "infinite weight": ({"spans": [["a", float("inf")]]}, r"\['a', inf\] is no span"),
    "weights of nothing": ({"spans": [["a", 0], ["", 1]]}, "no span has a weight above 0"),
    "half a character": ({"prompt": "\ud83d", "answer": "b"}, "a text has half a surrogate pair"),
    "no object": ([1, 2], "this is no JSON object: write one with prompt and answer"),
}


@pytest.mark.parametrize(("row", "sentence"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows_are_named_by_line(tmp_path: Path, row: object, sentence: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n\n{json.dumps(row)}\n{GOOD}\n")
    with pytest.raises(DataError, match=sentence) as raised:
        list(read_documents(path, ADEPT))
    said = str(raised.value)
    assert said.startswith(f"{path}, line 3: ")
    assert "\n" not in said


BAD_FILES: dict[str, tuple[str, bytes | None, str]] = {
    "ending": ("rows.json", b"{}", "{path} is neither .jsonl nor .csv: give the file one of these endings"),
    "missing": ("rows.jsonl", None, "{path} is not there: check the path"),
    "empty jsonl": ("rows.jsonl", b"", "{path} has no rows: add some"),
    "blank jsonl": ("rows.jsonl", b"\n \n", "{path} has no rows: add some"),
    "header only": ("rows.csv", b"prompt,answer\n", "{path} has no rows: add some"),
    "empty csv": ("rows.csv", b"", "{path} has the columns (none): it needs prompt and answer, or text"),
    "columns": (
        "rows.csv",
        b"prompt;answer\na;b\n",
        "{path} has the columns prompt;answer: it needs prompt and answer",
    ),
    "column twice": ("rows.csv", b"text,prompt,text\na,b,c\n", "{path} has the column text more than once: rename one"),
    "short row": ("rows.csv", b"prompt,answer\na,b\nc\n", "{path}, line 3: this row has 1 columns instead of 2"),
    "long row": ("rows.csv", b"prompt,answer\na,b,c\n", "{path}, line 2: this row has 3 columns instead of 2"),
    "open quote": ("rows.csv", b'prompt,answer\na,"b\nc\n', "{path}, line 2: this is no CSV ("),
    "after a long row": ("rows.csv", b'text\n"a\nb"\n\n"c"d\n', "{path}, line 5: this is no CSV ("),
    "text after quote": ("rows.csv", b'prompt,answer\na,"b"c\n', "{path}, line 2: this is no CSV ("),
    "empty cell": ("rows.csv", b"prompt,answer\na,\n", "{path}, line 2: answer='' is not allowed"),
    "latin-1 csv": ("rows.csv", "prompt,answer\na,größer\n".encode("latin-1"), "{path} is not UTF-8 ("),
    "latin-1 jsonl": ("rows.jsonl", '{"text": "größer"}'.encode("latin-1"), "{path} is not UTF-8 ("),
    "utf-16": ("rows.jsonl", '{"text": "a"}'.encode("utf-16"), "{path} is not UTF-8 ("),
    "broken json": ("rows.jsonl", b'{"text": "a"}\n{"text": ', "{path}, line 2: this is no JSON (Expecting value)"),
    "deep json": ("rows.jsonl", b"[" * 100_000, "{path}, line 1: this is no JSON ("),
    "huge number": ("rows.jsonl", b"1" * 5000, "{path}, line 1: this is no JSON ("),
}


@pytest.mark.parametrize(("name", "content", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_give_one_sentence(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        list(read_documents(path, ADEPT))
    said = str(raised.value)
    assert said.startswith(sentence.format(path=path))
    assert "\n" not in said

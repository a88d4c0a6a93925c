"""Conversations as files, there and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.conversation import Answer, Conversation, Outcome, Turn
from app.chat.settings import ChatSettings
from app.chat.transfer import MAX_IMPORT_BYTES, file_name, imported, to_json, to_readable
from model.interface import InvalidRequest

PIECES = ["<script>", "-->", "<!--", "## Question", "```", "\n", "\n\n", "`", "&lt;", "é", " ", "# x", "end {}"]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1
)
ANSWERS = st.builds(
    Answer,
    text=TEXTS,
    phase=st.just("done"),
    model=TEXTS,
    settings=st.builds(ChatSettings, prefix=TEXTS, stop=TEXTS, max_tokens=st.none() | st.integers(1, 9)),
    outcome=st.none()
    | st.builds(
        Outcome,
        finish_reason=st.sampled_from(["stop", "length", "abort"]),
        num_prompt_tokens=st.integers(0, 9),
        num_tokens=st.integers(0, 9),
        seed=st.integers(0, 2**64 - 1),
        queued_s=st.floats(0, 9),
        ttft_s=st.none() | st.floats(0, 9),
        total_s=st.floats(0, 9),
    ),
)
TURNS = st.lists(st.builds(Turn, TEXTS, st.none() | ANSWERS), min_size=1, max_size=3).map(tuple)
CONVERSATIONS = st.builds(Conversation, turns=TURNS, title=TEXTS | st.just(""))


@pytest.mark.slow
@given(st.lists(CONVERSATIONS, min_size=1, max_size=3))
def test_json_comes_back_whole(conversations: list[Conversation]) -> None:
    back = imported("x.json", to_json(conversations).encode())
    assert back == conversations
    assert len({one.identity for one in back} | {""}) == len(back) + 1


@given(CONVERSATIONS)
def test_markdown_comes_back_whole(conversation: Conversation) -> None:
    assert imported("x.md", to_readable(conversation).encode()) == [conversation]


def test_markdown_is_readable_and_harmless() -> None:
    settings = ChatSettings(temperature=0.5, prefix="a --> <script>")
    answer = Answer(text="```\n<i>code", phase="done", model="m<1>", settings=settings)
    conversation = Conversation(title="<b>T</b>").ask("Is <img src=x> code?").answered(answer)
    lines = to_readable(conversation).split("\n")
    shown = [line for line in lines if line and not line.startswith("<!-- workbench-")]
    assert shown[:5] == ["# &LT;b>T&LT;/b>", "## Question", "Is &LT;img src=x> code?", "## m<1>", "```"]
    assert shown[5:7] == ["<i>code", "```"]
    assert "temperature 0.5" in shown[-1]
    assert all(line.count("-->") == 1 for line in lines if line.startswith("<!--"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"{", "cannot be imported"),
        (b"{}", "'format' is missing"),
        (b'{"format": "other", "version": 1, "conversations": []}', "its format is 'other'"),
        (b"# just text", "no mark of an exported conversation"),
        (to_json([]).encode(), "holds no messages"),
        (b"x" * (MAX_IMPORT_BYTES + 1), "bytes"),
        (b"[" * 100_000, "no mark"),
        (b'{"a": ' + b"[" * 100_000, "cannot be imported"),
    ],
)
def test_another_file_is_one_sentence(data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as failed:
        imported("notes.json", data)
    assert str(failed.value).startswith("notes.json ")
    assert "\n" not in str(failed.value)


def test_a_wrong_field_is_named() -> None:
    content = json.loads(to_json([Conversation().ask("a").answered(Answer(text="b"))]))
    content["conversations"][0]["turns"][0]["answer"]["num_tokens"] = "many"
    with pytest.raises(InvalidRequest, match=r"0\.turns\.0\.answer\.num_tokens"):
        imported("x.json", json.dumps(content).encode())


def test_an_answer_that_never_ended_is_imported_as_ended() -> None:
    [back] = imported("x.json", to_json([Conversation().ask("a").answered(Answer(text="b", phase="writing"))]).encode())
    assert back.turns[0].answer is not None
    assert back.turns[0].answer.phase == "done"


def test_file_names_suit_every_system() -> None:
    assert file_name("What is 3 + 4?", "md") == "what-is-3-4.md"
    assert file_name("../Größe\n", "json") == "groe.json"
    assert file_name("日本", "md") == "conversation.md"

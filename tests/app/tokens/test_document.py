"""What was typed as tokens, with the border between prompt and answer where it was typed."""

from __future__ import annotations

import pytest
from scripted_engine import ByteTokenizer, ScriptedEngine

from app.tokens.document import make_document, split
from app.tokens.visible import token_name, visible_text
from model.engine.engine import LocalEngine
from model.interface import InvalidRequest

PIECES = {300: b"ab", 301: "é".encode()}


class PairTokenizer(ByteTokenizer):
    """As bytes, but 'ab' and 'é' are single tokens, and a text begins with a blank, as SentencePiece's."""

    def encode(self, text: str) -> list[int]:
        data = b" " + text.encode()
        token_ids = []
        while data:
            for token, piece in PIECES.items():
                if data.startswith(piece):
                    token_ids.append(token)
                    data = data[len(piece) :]
                    break
            else:
                token_ids.append(data[0])
                data = data[1:]
        return token_ids

    def token_bytes(self, token_id: int) -> bytes:
        return PIECES.get(token_id) or super().token_bytes(token_id)


@pytest.mark.parametrize(
    ("prompt", "answer", "num_answer_tokens", "joined"),
    [
        ("xy", "z", 1, False),
        ("xa", "bz", 2, True),
        ("x", "é", 1, False),
        ("xy", "", 0, False),
        ("", "xy", 3, False),  # the blank that is put first is the answer's then
    ],
)
def test_the_border_is_where_it_was_typed(prompt: str, answer: str, num_answer_tokens: int, joined: bool) -> None:
    tokenizer = PairTokenizer()
    document = split(tokenizer, prompt, answer)
    assert document.token_ids == tuple(tokenizer.encode_prompt(prompt + answer))
    assert len(document.answer_token_ids) == num_answer_tokens
    assert document.joined is joined


@pytest.mark.parametrize("text", ["The quick brown fox", "Été naïve façade", "a\n\n b", "日本", " "])
def test_every_border_of_a_real_tokenizer(engine: LocalEngine, text: str) -> None:
    tokenizer = engine.tokenizer
    for place in range(len(text) + 1):
        document = split(tokenizer, text[:place], text[place:])
        assert document.token_ids == tuple(tokenizer.encode_prompt(text))
        before = b"".join(map(tokenizer.token_bytes, document.prompt_token_ids)).decode(errors="ignore")
        assert text[:place].startswith(before.removeprefix(" ")) or text[:place].startswith(before)
        assert document.joined or place in (0, len(text)) or before.endswith(text[:place])


def test_a_question_in_the_chat_format() -> None:
    engine = ScriptedEngine()
    document = make_document(engine, "Hi", "Hello", in_chat_format=True)
    assert document.prompt == "human: Hi\n\nadept:"
    assert document.answer == " Hello"
    assert bytes(document.answer_token_ids) == b" Hello"
    engine.close()


@pytest.mark.parametrize(("prompt", "in_chat_format"), [("", False), (" ", True)])
def test_no_text_is_refused(prompt: str, in_chat_format: bool) -> None:
    engine = ScriptedEngine()
    with pytest.raises(InvalidRequest, match="the prompt is empty"):
        make_document(engine, prompt, "", in_chat_format=in_chat_format)
    engine.close()


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b" a\n\t", "␣a↵⇥"),
        (b"\xe2\x82", "\\xe2\\x82"),
        ("\u200b\u202e\x1b".encode(), "\\u200b\\u202e\\u001b"),
        ("\U000e0001".encode(), "\\U000e0001"),
        ("日本é".encode(), "日本é"),
    ],
)
def test_tokens_are_visible(data: bytes, shown: str) -> None:
    assert visible_text(data) == shown


def test_a_token_without_text_has_a_name() -> None:
    assert token_name(ByteTokenizer(), 256) == "end of document"
    assert token_name(ByteTokenizer(), 32) == "␣"

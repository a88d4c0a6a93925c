"""Echoed prompts: one entry a token, the first without a prediction, offsets that fit the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scripted_engine import ByteTokenizer

from app.api.logprobs import TextOffsets, echo_of, token_text

Serve = Callable[..., Any]


class BlankFirst(ByteTokenizer):
    """As SentencePiece: a blank before every text, which decoding drops."""

    def encode(self, text: str) -> list[int]:
        return super().encode(" " + text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return super().decode(token_ids).removeprefix(" ")


@pytest.mark.parametrize("max_tokens", [0, 1])
@pytest.mark.parametrize("as_tokens", [False, True])
def test_an_echo_has_every_prompt_token_and_the_answers(serve: Serve, max_tokens: int, as_tokens: bool) -> None:
    served = serve(answer=lambda prompt: "é" if prompt == "a" else "x")
    text = "aé!"
    prompt = list(text.encode()) if as_tokens else text
    body = {"prompt": prompt, "max_tokens": max_tokens, "echo": True, "logprobs": 1, "temperature": 0}
    (choice,) = served.post("/v1/completions", body).json()["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == text + "x" * max_tokens
    assert len(logprobs["token_logprobs"]) == len(text.encode()) + max_tokens
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["text_offset"] == [0, 1, 1, 2, 3][: 4 + max_tokens]
    assert logprobs["tokens"][:4] == ["a", "bytes:\\xc3", "bytes:\\xa9", "!"]
    greedy = [
        token == max(top.values())
        for token, top in zip(logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:], strict=True)
    ]
    assert greedy == [True, True, False, True][: 3 + max_tokens]
    assert logprobs["token_logprobs"][1] == pytest.approx(math.log(0.9))


def test_an_echo_without_logprobs_is_the_text(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "x")
    reply = served.post("/v1/completions", {"prompt": ["ab", "c"], "echo": True, "max_tokens": 1}).json()
    assert [choice["text"] for choice in reply["choices"]] == ["abx", "cx"]
    assert [choice["logprobs"] for choice in reply["choices"]] == [None, None]
    one = served.post("/v1/completions", {"prompt": [97], "echo": True, "max_tokens": 0, "logprobs": 0}).json()
    assert one["choices"][0]["logprobs"]["token_logprobs"] == [None]
    assert one["usage"]["completion_tokens"] == 0


def test_offsets_fit_the_text_where_a_blank_is_put_first() -> None:
    tokenizer = BlankFirst()
    for text in ("ab é", " ab", "é"):
        ids = tokenizer.encode(text)
        for given in (text, None):
            echoed, offsets = echo_of(tokenizer, ids, given)
            assert echoed == text
            assert offsets == sorted(offsets)
            for token, offset in zip(ids[1:], offsets[1:], strict=True):
                name = token_text(tokenizer, token)
                assert name.startswith("bytes:") or text[offset] == name


def test_offsets_never_fall_and_never_pass_the_end() -> None:
    tokenizer = ByteTokenizer()
    for data in (b"\xf0\x9f\x8d\x90a", b"\xff\xffa", b"a\xf0\x9f", b"\xc3\xa9\xc3"):
        text, offsets = echo_of(tokenizer, list(data), None)
        assert text == data.decode(errors="replace")
        assert offsets == sorted(offsets)
        assert all(0 <= offset <= len(text) for offset in offsets)
    assert TextOffsets(tokenizer, start=5).take([0xF0, 0x9F, 0x8D, 0x90, 97]) == [5, 5, 5, 5, 6]


def test_special_tokens_have_names_of_their_own() -> None:
    assert token_text(ByteTokenizer(), 256) == "token_id:256"
    assert token_text(ByteTokenizer(), 0xE2) == "bytes:\\xe2"

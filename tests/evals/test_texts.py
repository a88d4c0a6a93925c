"""Texts from files: what is read, and one clear sentence for what cannot be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from evals.errors import DataError
from evals.texts import read_texts


def test_one_text_or_a_text_a_line(tmp_path: Path) -> None:
    plain, lines = tmp_path / "a book.txt", tmp_path / "several.jsonl"
    plain.write_bytes("Größer.\r\n\nThe end.\n".encode())
    lines.write_text('{"text": "one"}\n\n{"text": "two\\u2028lines", "id": 3}\n')
    book = read_texts(plain)
    assert book.texts == ("Größer.\r\n\nThe end.\n",)
    assert (book.label, book.name, book.bundled) == ("a book", "a book.txt", False)
    assert book.sha256 == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert read_texts(lines).texts == ("one", "two\u2028lines")


def test_the_demo_world_is_bundled_in_every_form() -> None:
    demo = read_texts(None)
    assert demo.bundled
    assert demo.described()["name"] == "evals/data/demo"
    assert demo.described()["num_texts"] == len(demo.texts) > 500
    for beginning in ("Question: ", "Q: ", "def "):
        assert any(text.startswith(beginning) for text in demo.texts)
    assert all(text == text.strip() for text in demo.texts)
    assert demo == read_texts(None)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.md", b"text", r"x\.md is not allowed: give a \.txt file"),
        ("x.txt", None, r"x\.txt cannot be read \(No such file"),
        ("x.txt", b"\xff\xfe", r"x\.txt is not UTF-8 text \(invalid start byte at byte 0\)"),
        ("x.txt", b" \n ", r"x\.txt holds no text"),
        ("x.jsonl", b"\n", r"x\.jsonl holds no text"),
        ("x.jsonl", b'{"text": "a"}\n{"text"', r"x\.jsonl, line 2 is not JSON"),
        ("x.jsonl", b'{"words": "a"}', r"x\.jsonl, line 1, column text: None is not allowed"),
        ("x.jsonl", b'{"text": "a"}\n{"text": " "}', r"x\.jsonl, line 2, column text: ' ' is not allowed"),
        ("x.jsonl", b'["text"]', r"x\.jsonl, line 1, column text: None is not allowed"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_texts(path)

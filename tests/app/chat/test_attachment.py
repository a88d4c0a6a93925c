"""Text files put into a message."""

from __future__ import annotations

import pytest

from app.chat.attachment import MAX_BYTES, as_message
from model.interface import InvalidRequest


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"one\r\ntwo\n", "a.txt:\n```\none\ntwo\n```"),
        ("A.CSV", b"\xef\xbb\xbfx,y\n1,2", "A.CSV:\n```csv\nx,y\n1,2\n```"),
        ("n.md", "é ```` x ```".encode(), "n.md:\n`````markdown\né ```` x ```\n`````"),
    ],
)
def test_a_file_is_a_code_block_it_cannot_end(name: str, data: bytes, message: str) -> None:
    assert as_message(name, data) == message


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.pdf", b"x", "ends in .txt, .md, .csv"),
        ("noending", b"x", "ends in"),
        ("a.txt", b"x" * (MAX_BYTES + 1), "262,145 bytes: a file of at most 262,144 bytes"),
        ("a.txt", b"ab\xff", r"not UTF-8 text \(byte 2\)"),
        ("a.txt", b"a\0b", "zero bytes"),
        ("a.txt", b" \n", "is empty"),
    ],
)
def test_what_cannot_be_attached_is_one_sentence(name: str, data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        as_message(name, data)

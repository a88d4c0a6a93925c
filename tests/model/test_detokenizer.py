"""Text from tokens as they arrive: whole characters, stop strings wherever they fall."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.detokenizer import IncrementalDetokenizer


class ByteTokenizer:
    """One token a byte: every character beyond ASCII is split over tokens."""

    vocab_size = 256
    bos_token_id = None
    eos_token_ids: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_prompt(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


TOKENIZER = ByteTokenizer()


def run(text: str, stop: Sequence[str], sizes: Sequence[int] = (1,)) -> tuple[list[str], IncrementalDetokenizer]:
    detokenizer = IncrementalDetokenizer(TOKENIZER, stop)
    data, parts, i, turn = text.encode(), [], 0, 0
    while i < len(data):
        size = sizes[turn % len(sizes)]
        parts.append(detokenizer.push(data[i : i + size]))
        i, turn = i + size, turn + 1
    parts.append(detokenizer.finish())
    return parts, detokenizer


def first_stop(text: str, stop: Sequence[str]) -> tuple[str, str | None]:
    """The definition, in one look at the whole text: the stop string that ends first, of these the longest."""
    ends = [(i + len(s), i, s) for s in stop for i in range(len(text)) if text.startswith(s, i)]
    if not ends:
        return text, None
    _, start, found = min(ends)
    return text[:start], found


@given(
    text=st.text(alphabet="ab\n🙂é漢", max_size=40),
    stop=st.lists(st.text(alphabet="ab\n🙂", min_size=1, max_size=4), max_size=4),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_any_cut_into_tokens_gives_the_same_text_and_stop(text: str, stop: list[str], sizes: list[int]) -> None:
    parts, detokenizer = run(text, stop, sizes)
    assert ("".join(parts), detokenizer.stopped_by) == first_stop(text, stop)
    assert detokenizer.text == "".join(parts)


@given(data=st.binary(max_size=30), size=st.integers(1, 5))
def test_any_bytes_give_what_python_decodes(data: bytes, size: int) -> None:
    detokenizer = IncrementalDetokenizer(TOKENIZER)
    parts = [detokenizer.push(data[i : i + size]) for i in range(0, len(data), size)]
    assert "".join([*parts, detokenizer.finish()]) == data.decode(errors="replace")


def test_a_character_appears_once_and_whole() -> None:
    parts, _ = run("a🙂b", ())
    assert parts == ["a", "", "", "", "🙂", "b", ""]


@pytest.mark.parametrize(
    ("text", "stop", "shown", "by"),
    [
        ("yes\n\nhuman: more", ["\n\nhuman:"], "yes", "\n\nhuman:"),
        ("yes\n\nhum", ["\n\nhuman:"], "yes\n\nhum", None),
        ("\n\nhuman:", ["\n\nhuman:"], "", "\n\nhuman:"),
        ("aab", ["ab", "aab"], "", "aab"),
        ("abcd", ["abcd", "bc"], "a", "bc"),
        ("ababac", ["abac"], "ab", "abac"),
    ],
)
def test_stop_strings(text: str, stop: list[str], shown: str, by: str | None) -> None:
    parts, detokenizer = run(text, stop)
    assert ("".join(parts), detokenizer.stopped_by) == (shown, by)


def test_text_is_held_back_only_while_it_may_be_a_stop() -> None:
    detokenizer = IncrementalDetokenizer(TOKENIZER, ["\n\nhuman:"])
    assert detokenizer.push(b"a\n") == "a"
    assert detokenizer.push(b"\n") == ""
    assert detokenizer.push(b"hu") == ""
    assert detokenizer.push(b"g") == "\n\nhug"


def test_nothing_comes_after_a_stop() -> None:
    detokenizer = IncrementalDetokenizer(TOKENIZER, ["b"])
    assert detokenizer.push(b"abc") == "a"
    assert detokenizer.push(b"def") == ""
    assert detokenizer.finish() == ""

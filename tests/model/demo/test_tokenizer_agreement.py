"""tokenizer.json gives the ids that SentencePiece gives, and AutoTokenizer gives them too."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

os.environ.setdefault("HF_HUB_OFFLINE", "1")

BUNDLE = Path(__file__).parents[3] / "model/demo/persimmon-demo"

CUT_OUT = ("|ENDOFTEXT|", "|SPEAKER|", "|NEWLINE|", "A:", "B:", "C:", "D:", "E:")

TEXTS = [
    "A: dog\nB: 14\nAnswer: B",
    " A:",
    "x A: b, MEDIA: c",
    "",
    " ",
    "  ",
    "hello",
    " hello",
    "  hello  world ",
    "hello   world",
    "\n",
    "\n\n",
    " \n x",
    "a\nb\n\nc",
    "\tif x:\n\t\treturn 1\r\n",
    "human: What is 3 + 4?\n\nadept: 3 + 4 = 7.",
    "What is the capital of France? Paris, 2023! 1234567890",
    "def f(x):\n    return x[::-1]  # ok\n",
    "emoji \U0001f600\U0001f1eb\U0001f1f7 \u2764\ufe0f",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f",
    "\u00e9\u00e8 na\u00efve \u00fc \u00df \u0130 \u03a9 \ufb01 \uff21\uff22",
    "\u2581 \u2581x",
    "\u2581\u2581",
    "x\u00a0y\u200bz\ufeff",
    "<s></s><unk><0x0A><0xFF>",
    "<0x0A> <s> x",
    "x|ENDOFTEXT|y",
    "x |ENDOFTEXT| y",
    "x|SPEAKER||NEWLINE| z",
    " |ENDOFTEXT|",
    "|ENDOFTEXT|human: hi",
    "|ENDOFTEXT||ENDOFTEXT|",
    "|ENDOFTEXT",
    "|SPEAKER",
    "a" * 300,
    " " * 77,
    "1" * 50,
    "= " * 40,
]


@cache
def _processor() -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(BUNDLE / "tokenizer.model"))


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BUNDLE / "tokenizer.json"))


@cache
def _auto() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(BUNDLE))


@pytest.mark.parametrize("text", TEXTS)
def test_same_ids(text: str) -> None:
    expected = _processor().encode(text)
    assert _tokenizer().encode(text, add_special_tokens=True).ids == expected
    assert _auto()(text)["input_ids"] == expected


@pytest.mark.parametrize("text", TEXTS)
def test_same_text_back(text: str) -> None:
    ids = _processor().encode(text)
    assert _tokenizer().decode(ids, skip_special_tokens=False) == _processor().decode(ids)


LETTERS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=" \n\t<>|s/0xAF1_.aeht\u2581", max_size=40),
    st.lists(
        st.sampled_from(
            [
                "human",
                ": ",
                "\n\n",
                "adept",
                " the",
                " ",
                "  ",
                "|ENDOFTEXT|",
                "|SPEAKER|",
                "<0x0A>",
                "12",
                "dog",
                "\u00e9",
            ]
        ),
        max_size=20,
    ).map("".join),
)


@settings(max_examples=400, deadline=None)
@given(LETTERS)
def test_same_ids_on_any_text(text: str) -> None:
    if text in CUT_OUT:
        return  # the one stated difference, below
    assert _tokenizer().encode(text).ids == _processor().encode(text)


def test_the_one_stated_difference() -> None:
    for piece in CUT_OUT:
        (own,) = _tokenizer().encode(piece).ids
        assert _processor().encode(piece) == [_processor().piece_to_id("\u2581"), own]


def test_newline_is_one_token_that_decodes_to_a_newline() -> None:
    ids = _tokenizer().encode("a\nb").ids
    assert len(ids) == 3
    assert _tokenizer().decode(ids) == "a\nb"


def test_special_ids() -> None:
    tokenizer = _auto()
    names = ["<unk>", "<s>", "</s>", "|ENDOFTEXT|", "|SPEAKER|", "|NEWLINE|"]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(6))
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == tokenizer.bos_token_id == 3
    assert tokenizer.decode([3, 100], skip_special_tokens=True) == tokenizer.decode([100])
    assert len(tokenizer) == _processor().vocab_size()

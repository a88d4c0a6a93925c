"""A vocabulary gives the same ids in every reader: SentencePiece, tokenizers, AutoTokenizer and our engine.

Persimmon and Llama have a SentencePiece model as the standard. MPT's has none; there, its own rules are tested.
"""

import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from model.checkpoint.config_json import read_json
from model.checkpoint.special_tokens import special_tokens
from model.demo import corpus
from model.demo.family import FAMILIES, DemoFamily
from model.demo.tokenizer import OPTION_PIECES, SPECIAL_PIECES, VOCAB_SIZE, split_letters
from model.finetune.documents import text_of
from model.tokenizer import JsonTokenizer, SentencePieceTokenizer

SPELLED = {
    "persimmon-demo": SPECIAL_PIECES,
    "mpt-demo": ("<|endoftext|>",),
    "llama-demo": ("<s>", "</s>", "<unk>"),
}
"""Special pieces that tokenizers recognises in a text."""

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
    "### Instruction:\nWhat is 3 + 4?\n### Response:\n7",
    "User: What is 3 + 4?\n\nAssistant: 7",
    "What is the capital of France? Paris, 2023! 1234567890",
    "def f(x):\n    return x[::-1]  # ok\n",
    "def f(x):\n        return 1\n            y\n",
    "emoji \U0001f600\U0001f1eb\U0001f1f7 \u2764\ufe0f",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f",
    "\u00e9\u00e8 na\u00efve \u00fc \u00df \u0130 \u03a9 \ufb01 \uff21\uff22",
    "e\u0301 \u212b \u1e9b\u0323",
    "\u0661\u0662 \u00bd \u00b2 \u4e09 \uff11",
    "\u2581 \u2581x",
    "\u2581\u2581",
    "\u0120hello \u010a",
    "x\u00a0y\u200bz\ufeff",
    "<0x0A> x",
    "<s",
    "</s",
    "<|endoftext",
    "|ENDOFTEXT",
    "|SPEAKER",
    "a" * 300,
    " " * 77,
    "1" * 50,
    "= " * 40,
]

PERSIMMON_SPELLED = [
    "<s></s><unk><0x0A><0xFF>",
    "<0x0A> <s> x",
    "x|ENDOFTEXT|y",
    "x |ENDOFTEXT| y",
    "x|SPEAKER||NEWLINE| z",
    " |ENDOFTEXT|",
    "|ENDOFTEXT|human: hi",
    "|ENDOFTEXT||ENDOFTEXT|",
]
"""SentencePiece recognises Persimmon's special pieces too; Llama's are different, see below."""

ANY_TEXT = st.one_of(
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
                "<0x0A>",
                "12",
                "dog",
                "\u00e9",
                "A:",
                "B",
                " C",
                *SPECIAL_PIECES,
            ]
        ),
        max_size=20,
    ).map("".join),
)


def _is_stated_difference(family: DemoFamily, text: str) -> bool:
    """Whether tokenizers and SentencePiece differ on ``text`` as the two tests below say."""
    if family.name == "persimmon-demo":
        return text in (*SPECIAL_PIECES, *OPTION_PIECES)
    return any(piece in text for piece in SPELLED[family.name])


sentencepiece_families = pytest.mark.parametrize("family", ["persimmon", "llama"], indirect=True, scope="session")
mpt = pytest.mark.parametrize("family", ["mpt"], indirect=True, scope="session")


@cache
def _processor(folder: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@cache
def _auto(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(folder))


@cache
def _own(folder: Path) -> JsonTokenizer:
    return JsonTokenizer(folder / "tokenizer.json", special_tokens(folder, read_json(folder / "config.json")))


def _ids(folder: Path, text: str) -> list[int]:
    ids: list[int] = _tokenizer(folder).encode(text, add_special_tokens=False).ids
    return ids


@pytest.mark.parametrize("text", TEXTS)
@sentencepiece_families
def test_same_ids_as_sentencepiece(initial_checkpoint: Path, text: str) -> None:
    assert _ids(initial_checkpoint, text) == _processor(initial_checkpoint).encode(text)


@pytest.mark.parametrize("text", TEXTS)
@sentencepiece_families
def test_same_text_back_as_sentencepiece(initial_checkpoint: Path, text: str) -> None:
    ids = _processor(initial_checkpoint).encode(text)
    assert _tokenizer(initial_checkpoint).decode(ids, skip_special_tokens=False) == _processor(
        initial_checkpoint
    ).decode(ids)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(text=ANY_TEXT)
@sentencepiece_families
def test_same_ids_on_any_text(family: DemoFamily, initial_checkpoint: Path, text: str) -> None:
    if _is_stated_difference(family, text):
        return
    assert _ids(initial_checkpoint, text) == _processor(initial_checkpoint).encode(text)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="abehnorst \u2581:A", min_size=20, max_size=200))
@sentencepiece_families
def test_same_ids_on_long_runs_of_common_letters(initial_checkpoint: Path, text: str) -> None:
    assert _ids(initial_checkpoint, text) == _processor(initial_checkpoint).encode(text)


@sentencepiece_families
def test_same_ids_on_the_corpus(family: DemoFamily, initial_checkpoint: Path) -> None:
    for document, _ in zip(family.documents(8), range(500), strict=False):
        text = text_of(document[:-1])
        assert _ids(initial_checkpoint, text) == _processor(initial_checkpoint).encode(text)


@pytest.mark.parametrize("text", PERSIMMON_SPELLED)
@pytest.mark.parametrize("family", ["persimmon"], indirect=True, scope="session")
def test_persimmons_special_pieces_are_recognised_alike(initial_checkpoint: Path, text: str) -> None:
    expected = _processor(initial_checkpoint).encode(text)
    assert _ids(initial_checkpoint, text) == expected
    assert _tokenizer(initial_checkpoint).decode(expected, skip_special_tokens=False) == _processor(
        initial_checkpoint
    ).decode(expected)


@pytest.mark.parametrize("family", ["persimmon"], indirect=True, scope="session")
def test_persimmons_one_stated_difference(initial_checkpoint: Path) -> None:
    for piece in (*SPECIAL_PIECES, *OPTION_PIECES):
        (own,) = _ids(initial_checkpoint, piece)
        processor = _processor(initial_checkpoint)
        assert processor.encode(piece) == [processor.piece_to_id("\u2581"), own]


@pytest.mark.parametrize("family", ["llama"], indirect=True, scope="session")
def test_llamas_one_stated_difference(initial_checkpoint: Path) -> None:
    """As with Llama 2's own files: SentencePiece spells control pieces out, tokenizers recognises them."""
    for number, piece in enumerate(("<unk>", "<s>", "</s>")):
        assert _ids(initial_checkpoint, piece) == [number]
        assert number not in _processor(initial_checkpoint).encode(piece)
        assert _ids(initial_checkpoint, f"dog{piece}") == [*_ids(initial_checkpoint, "dog"), number]


@pytest.mark.parametrize("text", [*TEXTS, *PERSIMMON_SPELLED])
def test_inference_has_the_same_ids_everywhere(family: DemoFamily, initial_checkpoint: Path, text: str) -> None:
    expected = _ids(initial_checkpoint, text)
    if family.adds_beginning and expected[:1] != [family.beginning_of_document_id]:
        expected = [family.beginning_of_document_id, *expected]
        assert _auto(initial_checkpoint)(text)["input_ids"] == expected
        assert _tokenizer(initial_checkpoint).encode(text).ids == expected
    assert _own(initial_checkpoint).encode_prompt(text) == expected
    assert _own(initial_checkpoint).encode(text) == _ids(initial_checkpoint, text)
    assert _auto(initial_checkpoint)(text, add_special_tokens=False)["input_ids"] == _ids(initial_checkpoint, text)
    if not family.adds_beginning:
        assert _auto(initial_checkpoint)(text)["input_ids"] == expected


@pytest.mark.parametrize("text", TEXTS)
@sentencepiece_families
def test_our_sentencepiece_reader_agrees(initial_checkpoint: Path, text: str) -> None:
    """It is what reads a folder that has no tokenizer.json."""
    own = SentencePieceTokenizer(
        initial_checkpoint / "tokenizer.model",
        special_tokens(initial_checkpoint, read_json(initial_checkpoint / "config.json")),
    )
    assert own.encode_prompt(text) == _own(initial_checkpoint).encode_prompt(text)
    ids = own.encode(text)
    assert own.decode(ids) == _own(initial_checkpoint).decode(ids)
    assert [own.token_bytes(token) for token in ids] == [_own(initial_checkpoint).token_bytes(token) for token in ids]


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_the_tokens_are_the_text(family: DemoFamily, initial_checkpoint: Path, text: str) -> None:
    own = _own(initial_checkpoint)
    joined = b"".join(own.token_bytes(token) for token in own.encode(text)).decode()
    if family.name == "mpt-demo":
        assert joined == unicodedata.normalize("NFC", text)
        assert own.decode(own.encode(text)) == joined
    elif text:
        assert joined == " " + text.replace("\u2581", " ")


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT)
@mpt
def test_mpts_ids_give_the_text_back(initial_checkpoint: Path, text: str) -> None:
    ids = _ids(initial_checkpoint, text)
    assert _tokenizer(initial_checkpoint).decode(ids) == unicodedata.normalize("NFC", text)
    assert _auto(initial_checkpoint)(text)["input_ids"] == ids


@settings(max_examples=300, deadline=None)
@given(before=ANY_TEXT, after=ANY_TEXT)
@mpt
def test_mpts_newlines_end_words(initial_checkpoint: Path, before: str, after: str) -> None:
    """So that a prompt that ends with a newline has the tokens it has inside a document."""
    normal_after = unicodedata.normalize("NFC", f"\n{after}")[1:]
    whole = _ids(initial_checkpoint, f"{before}\n{normal_after}")
    assert whole == _ids(initial_checkpoint, f"{before}\n") + _ids(initial_checkpoint, normal_after)


def test_newline_is_one_token_that_decodes_to_a_newline(initial_checkpoint: Path) -> None:
    ids = _ids(initial_checkpoint, "a\nb")
    (newline,) = (token for token in ids if _own(initial_checkpoint).token_bytes(token) == b"\n")
    assert ids.count(newline) == 1
    assert _tokenizer(initial_checkpoint).decode(ids) == "a\nb"


def test_vocabulary_size_and_special_ids(family: DemoFamily, initial_checkpoint: Path) -> None:
    assert len(_auto(initial_checkpoint)) == _tokenizer(initial_checkpoint).get_vocab_size() == VOCAB_SIZE
    assert set(_tokenizer(initial_checkpoint).get_vocab().values()) == set(range(VOCAB_SIZE))
    tokenizer = _auto(initial_checkpoint)
    names = {
        "persimmon-demo": ["<unk>", "<s>", "</s>", *SPECIAL_PIECES],
        "mpt-demo": ["<|endoftext|>"],
        "llama-demo": ["<unk>", "<s>", "</s>"],
    }[family.name]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(len(names)))
    dog = _ids(initial_checkpoint, " dog")
    for spelled in SPELLED[family.name]:
        special = _tokenizer(initial_checkpoint).token_to_id(spelled)
        assert tokenizer.decode([*dog, special], skip_special_tokens=True) == tokenizer.decode(dog)
        assert _own(initial_checkpoint).token_bytes(special) == b""
    if (initial_checkpoint / "tokenizer.model").exists():
        assert _processor(initial_checkpoint).vocab_size() == VOCAB_SIZE


def test_the_end_of_a_document_is_one_token(family: DemoFamily, initial_checkpoint: Path) -> None:
    for document, _ in zip(family.documents(9), range(200), strict=False):
        ids = _ids(initial_checkpoint, text_of(document))
        assert ids == [*_ids(initial_checkpoint, text_of(document[:-1])), family.end_of_document_id]
        assert family.end_of_document_id not in ids[:-1]
        assert family.beginning_of_document_id not in ids[:-1]


def test_prompts_have_the_tokens_they_have_inside_documents(family: DemoFamily, initial_checkpoint: Path) -> None:
    """Or what was learnt would not be what is asked."""
    for document, _ in zip(family.documents(10), range(500), strict=False):
        ids = _ids(initial_checkpoint, text_of(document))
        for index, span in enumerate(document):
            if span.weight >= 1:
                prompt = _ids(initial_checkpoint, text_of(document[:index]))
                assert ids[: len(prompt)] == prompt, document


def test_every_letter_and_every_word_of_the_world_is_one_token(family: DemoFamily, initial_checkpoint: Path) -> None:
    assert split_letters(initial_checkpoint / "tokenizer.json") == []
    context = _ids(initial_checkpoint, "Answer:")
    for word in (*"ABCDE", *corpus.EVERY_WORD):
        whole = _ids(initial_checkpoint, f"Answer: {word}")
        assert whole[: len(context)] == context
        assert len(whole) == len(context) + 1, word


def test_digits_stand_alone(initial_checkpoint: Path) -> None:
    own = _own(initial_checkpoint)
    pieces = [own.token_bytes(token) for token in own.encode("Is 1024 - 17 = 1007?")]
    assert [piece for piece in pieces if any(48 <= byte < 58 for byte in piece)] == [
        bytes([digit]) for digit in b"1024171007"
    ]


def test_split_letters_names_them(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(
        '{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,'
        '"decoder": null, "truncation": null, "padding": null, "model": {"type": "BPE", "vocab": {"x": 0, "A": 1},'
        '"merges": [], "unk_token": "x"}}'
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    expected = [f" {letter}" for letter in "ABCDE"] + list("BCDE") + list(OPTION_PIECES)
    assert split_letters(tmp_path / "tokenizer.json") == expected


def test_every_family_is_here() -> None:
    assert set(SPELLED) == {family.name for family in FAMILIES.values()}

"""Both tokenizer files against sentencepiece itself, on a fresh model and on the bundled one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoint.errors import CheckpointError
from model.checkpoint.tokenizer_json import write_tokenizer_json
from model.detokenizer import IncrementalDetokenizer
from model.interface import InvalidRequest, Tokenizer
from model.open_engine import DEMO_CHECKPOINT
from model.tokenizer import SpecialTokens, load_tokenizer

PLAIN = SpecialTokens(bos_token_id=None, eos_token_ids=(), prompts_begin_with_bos=False)

TEXTS = [
    "",
    "Hello world",
    " one leading space",
    "   three leading, two  inside and trailing  ",
    "line\nline\n\nparagraph\n",
    "\n",
    "\ttab\tand\r\nreturn",
    "emoji 🙂👩‍👩‍👧 and 🏳️‍🌈",
    "bytes \u0000 \u007f \u00a0 \ufeff ﷽ \U0010ffff",
    "漢字かな交じり文 한국어 ไทย",
    "def f(x):\n    return {'a': [x ** 2, \"b\"]}  # comment",
    "human: What is it?\n\nadept: It is 7.\n\nhuman:",
    "|ENDOFTEXT| inside |SPEAKER| and |NEWLINE| of text",
    "▁already ▁escaped",
    "<s> </s> <unk> <0x0A>",
    "é e\u0301 ﬁ ½",
]


@pytest.fixture(scope="module", params=["fresh", "bundled"])
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentencepiece_model: bytes
) -> Path:
    if request.param == "bundled":
        return DEMO_CHECKPOINT
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.model").write_bytes(sentencepiece_model)
    write_tokenizer_json(folder / "tokenizer.model", folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module", params=["tokenizer.json", "tokenizer.model"])
def tokenizer(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    alone = tmp_path_factory.mktemp("alone")
    shutil.copy(folder / request.param, alone)
    return load_tokenizer(alone, PLAIN)


@pytest.fixture(scope="module")
def reference(folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_sentencepiece(
    text: str, tokenizer: Tokenizer, reference: sentencepiece.SentencePieceProcessor
) -> None:
    assert tokenizer.encode(text) == reference.encode(text)


@pytest.mark.parametrize("text", [text for text in TEXTS if "|" not in text and "▁" not in text])
def test_decode_gives_the_text_back(text: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", [text for text in TEXTS if "|" not in text and "▁" not in text])
def test_detokenizer_gives_the_text_after_its_prefix(text: str, tokenizer: Tokenizer) -> None:
    """Inside a document the bytes of the tokens are the text; at its start there is the dummy blank before it."""
    detokenizer = IncrementalDetokenizer(tokenizer)
    parts = [detokenizer.push([token]) for token in tokenizer.encode(text)]
    assert "".join([*parts, detokenizer.finish()]) == (f" {text}" if text else "")


def test_special_symbols_give_no_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a|ENDOFTEXT|")
    assert tokenizer.token_bytes(ids[-1]) == b""
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.token_bytes(tokenizer.vocab_size + 5) == b""
    with pytest.raises(InvalidRequest, match="token id -1"):
        tokenizer.token_bytes(-1)


def test_byte_level_tokenizers_are_read(tmp_path: Path) -> None:
    """The MPT and GPT-NeoX kind: bytes stand behind printable stand-ins, and runs of blanks are added tokens."""
    source = tokenizers.Tokenizer(tokenizers.models.BPE())
    source.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    source.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    source.train_from_iterator(["hello world", "naïve café"] * 5, trainer)
    source.add_tokens([tokenizers.AddedToken("    ", normalized=False)])
    source.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, PLAIN)
    for text in ("hello    world 🙂 naïve\n", " x", "漢"):
        ids = tokenizer.encode(text)
        assert b"".join(tokenizer.token_bytes(token) for token in ids).decode() == text
    assert tokenizer.encode("<|endoftext|>") == [0]
    assert tokenizer.token_bytes(0) == b""


@pytest.mark.slow
@given(text=st.text(max_size=60))
def test_any_text_agrees_on_the_bundled_tokenizer(text: str) -> None:
    both = _bundled()
    assert both[0].encode(text) == both[1].encode(text)


_CACHE: list[Tokenizer] = []


def _bundled() -> list[Tokenizer]:
    if not _CACHE:
        import tempfile

        for name in ("tokenizer.json", "tokenizer.model"):
            with tempfile.TemporaryDirectory() as alone:
                shutil.copy(DEMO_CHECKPOINT / name, alone)
                _CACHE.append(load_tokenizer(Path(alone), PLAIN))
    return _CACHE


def test_prompts_begin_with_bos_where_the_family_says_so(tmp_path: Path) -> None:
    shutil.copy(DEMO_CHECKPOINT / "tokenizer.json", tmp_path)
    plain = load_tokenizer(tmp_path, PLAIN)
    with_bos = load_tokenizer(tmp_path, SpecialTokens(bos_token_id=3, eos_token_ids=(3,), prompts_begin_with_bos=True))
    ids = plain.encode("hello")
    assert plain.encode_prompt("hello") == with_bos.encode("hello") == ids
    assert with_bos.encode_prompt("hello") == [3, *ids]
    assert with_bos.encode_prompt("") == [3]
    assert with_bos.encode_prompt("|ENDOFTEXT|")[:2] != [3, 3]
    with pytest.raises(CheckpointError, match="no bos_token_id"):
        load_tokenizer(tmp_path, SpecialTokens(bos_token_id=None, eos_token_ids=(), prompts_begin_with_bos=True))


def test_missing_and_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        load_tokenizer(tmp_path, PLAIN)
    (tmp_path / "tokenizer.model").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is no SentencePiece model"):
        load_tokenizer(tmp_path, PLAIN)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer file"):
        load_tokenizer(tmp_path, PLAIN)

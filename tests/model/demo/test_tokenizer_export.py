"""The exporter on other SentencePiece models: normalised ones agree, unsupported ones are refused in one sentence."""

import io
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer

from model.checkpoint.tokenizer_json import (
    NORMAL,
    USER_DEFINED,
    Piece,
    SentencePieceModel,
    UnrepresentableTokenizer,
    read_sentencepiece_model,
    tokenizer_json,
    write_tokenizer_json,
)
from model.demo.english import GENERIC_ENGLISH

TEXTS = [
    "",
    " ",
    "hello world",
    "  the  quick\tbrown \n fox  ",
    "\uff21\uff22 \ufb01 \u00e9 \u2460",
    "numbers 123",
    "x\u3000y",
    "a user piece ##X## inside",
    "\U0001f600 emoji",
]


def _train(path: Path, **options: Any) -> Path:
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(GENERIC_ENGLISH.splitlines()),
        model_writer=buffer,
        **{"vocab_size": 420, "byte_fallback": True, "hard_vocab_limit": False, "minloglevel": 2, **options},
    )
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": False},
        {"add_dummy_prefix": False},
        {"byte_fallback": False, "vocab_size": 200},
        {"user_defined_symbols": ["##X##"]},
        {"split_digits": True, "allow_whitespace_only_pieces": True, "remove_extra_whitespaces": False},
    ],
)
def test_other_settings_agree(tmp_path: Path, options: dict[str, Any]) -> None:
    required = {"required_chars": "<>0123456789ABCDEFxsunk/"}
    model = _train(tmp_path / "m.model", **required, **options)
    write_tokenizer_json(model, tmp_path / "tokenizer.json")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert tokenizer.encode(text).ids == processor.encode(text), text


def test_the_reader_sees_what_sentencepiece_sees(tmp_path: Path) -> None:
    path = _train(tmp_path / "m.model", user_defined_symbols=["##X##"])
    model = read_sentencepiece_model(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert [piece.text for piece in model.pieces] == [processor.id_to_piece(i) for i in range(len(processor))]
    assert [piece.score for piece in model.pieces] == [processor.get_score(i) for i in range(len(processor))]
    assert [i for i, piece in enumerate(model.pieces) if piece.type == USER_DEFINED] == [processor.piece_to_id("##X##")]
    assert model.byte_fallback
    assert model.add_dummy_prefix
    assert model.remove_extra_whitespaces
    assert model.precompiled_charsmap


def test_bpe_is_refused(tmp_path: Path) -> None:
    model = _train(tmp_path / "m.model", model_type="bpe")
    with pytest.raises(UnrepresentableTokenizer, match="'bpe'"):
        write_tokenizer_json(model, tmp_path / "tokenizer.json")


def test_whitespace_as_suffix_is_refused(tmp_path: Path) -> None:
    model = _train(tmp_path / "m.model", treat_whitespace_as_suffix=True)
    with pytest.raises(UnrepresentableTokenizer, match="treat_whitespace_as_suffix"):
        write_tokenizer_json(model, tmp_path / "tokenizer.json")


def test_a_piece_with_an_unknown_character_is_refused() -> None:
    pieces = [Piece("<unk>", 0.0, 2), Piece("ab", -1.0, NORMAL), Piece("a", -2.0, NORMAL)]
    with pytest.raises(UnrepresentableTokenizer, match="'b'"):
        tokenizer_json(SentencePieceModel(pieces=pieces))


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.model").write_bytes(b"")
    with pytest.raises(ValueError, match="holds no pieces"):
        read_sentencepiece_model(tmp_path / "m.model")
    (tmp_path / "m.model").write_bytes(b"\x0a\xff\xff")
    with pytest.raises(ValueError, match=r"damaged|cut off"):
        read_sentencepiece_model(tmp_path / "m.model")

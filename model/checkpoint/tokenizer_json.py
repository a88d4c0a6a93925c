"""Write a SentencePiece unigram model as Hugging Face ``tokenizer.json``, id for id.

What makes the two agree, and where the obvious conversion does not:

* Byte, control and unused pieces are never matched in text by SentencePiece, but ``tokenizers`` matches every entry of
  its vocabulary. They get a score so low that spelling them out always wins.
* ``Metaspace`` adds the dummy prefix only to a text that does not start with a space already; SentencePiece always adds
  it. A leading space (or U+2581) is therefore doubled first.
* User-defined and special pieces are cut out after that, from the whole text, so that no later stretch of text gets a
  prefix of its own.

Known difference: a text that consists of one special piece and nothing else gets no dummy prefix.

Sources: ``sentencepiece_model.proto``, ``unigram_model.cc`` and ``normalizer.cc`` of google/sentencepiece 0.2.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Piece types of ``sentencepiece_model.proto``."""

MODEL_TYPES: Final = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
SPACE: Final = "\u2581"
PERSIMMON_SPECIAL_PIECES: Final = ("|ENDOFTEXT|", "|SPEAKER|", "|NEWLINE|")


class UnrepresentableTokenizer(ValueError):
    """``tokenizer.json`` cannot express this SentencePiece model; the text is one sentence saying why."""


@dataclass(frozen=True)
class Piece:
    """One vocabulary entry; its id is its place in the list. ``score`` is a natural-log probability."""

    text: str
    score: float
    type: int


@dataclass
class SentencePieceModel:
    """The parts of a ``.model`` file that decide how text becomes ids; defaults are those of the proto."""

    pieces: list[Piece] = field(default_factory=list)
    model_type: int = 1
    byte_fallback: bool = False
    treat_whitespace_as_suffix: bool = False
    precompiled_charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


def read_sentencepiece_model(path: Path) -> SentencePieceModel:
    """Read a ``.model`` file.

    Raises:
        ValueError: the file is not a SentencePiece model.
    """
    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path.name} is damaged or cut off ({error}): fetch it again") from None
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    model = SentencePieceModel(
        pieces=[Piece(piece.piece, piece.score, piece.type) for piece in proto.pieces],
        model_type=trainer.model_type,
        byte_fallback=trainer.byte_fallback,
        treat_whitespace_as_suffix=trainer.treat_whitespace_as_suffix,
        precompiled_charsmap=normalizer.precompiled_charsmap,
        add_dummy_prefix=normalizer.add_dummy_prefix,
        remove_extra_whitespaces=normalizer.remove_extra_whitespaces,
        escape_whitespaces=normalizer.escape_whitespaces,
    )
    if not model.pieces:
        raise ValueError(f"{path.name} holds no pieces: it is not a SentencePiece model")
    return model


def _unigram_vocabulary(model: SentencePieceModel) -> list[tuple[str, float]]:
    """Pair every piece with the score that makes ``tokenizers`` choose as SentencePiece does."""
    normal = {piece.text: piece.score for piece in model.pieces if piece.type == NORMAL}
    if not normal:
        raise UnrepresentableTokenizer("the model has no normal pieces: nothing but bytes could be encoded")
    spelled = set(normal)
    unspellable = sorted({letter for text in normal for letter in text if letter not in spelled})
    if unspellable:
        raise UnrepresentableTokenizer(
            f"the character {unspellable[0]!r} occurs in a piece but is no piece itself ({len(unspellable)} such "
            "characters): tokenizers would weigh unknown characters differently there; keep the .model file"
        )
    silent = [piece for piece in model.pieces if piece.type in (CONTROL, BYTE, UNUSED, UNKNOWN)]
    for piece in silent:
        if not set(piece.text) <= spelled:
            raise UnrepresentableTokenizer(
                f"the piece {piece.text!r} cannot be spelled with the vocabulary's characters: tokenizers would match "
                "it in text; keep the .model file"
            )
    # Spelling a silent piece costs at most one worst score for each of its characters.
    longest = max((len(piece.text) for piece in silent), default=0)
    silent_score = (longest + 1) * min(min(normal.values()), -1.0)
    best = max(normal.values())
    vocabulary = []
    for piece in model.pieces:
        score = piece.score
        if piece.type in (CONTROL, BYTE, UNUSED, UNKNOWN):
            score = silent_score
        elif piece.type == USER_DEFINED:
            score = len(piece.text.encode()) * best - 0.1  # unigram_model.cc, EncodeOptimized
        vocabulary.append((piece.text, score))
    return vocabulary


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _normalizer(model: SentencePieceModel, cut_out: Sequence[str]) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if model.precompiled_charsmap:
        charsmap = base64.b64encode(model.precompiled_charsmap).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.remove_extra_whitespaces:
        # A space left at the start stands for the dummy prefix; Metaspace would not add one after a Strip, which moves
        # the text's first offset.
        steps.append(_replace(" {2,}", " "))
        steps.append(_replace(r" \z", ""))
        if not model.add_dummy_prefix:
            steps.append(_replace(r"\A ", ""))
    if model.add_dummy_prefix:
        for start in (SPACE,) if model.remove_extra_whitespaces else (" ", SPACE):
            steps.append(_replace(rf"\A{start}", start * 2))
        for piece in cut_out:
            # With more text after it, or the piece would not be recognised as itself.
            steps.append(_replace(rf"\A{re.escape(piece)}(?=[\s\S])", f" {piece}"))
    return {"type": "Sequence", "normalizers": steps} if steps else None


def tokenizer_json(
    model: SentencePieceModel, *, special_pieces: Sequence[str] = PERSIMMON_SPECIAL_PIECES
) -> dict[str, Any]:
    """Build the content of ``tokenizer.json``.

    Args:
        model: As read by ``read_sentencepiece_model``.
        special_pieces: Pieces that decoding may skip and that are recognised in text, those the model has; in
            SentencePiece they are recognised in text only if they are user-defined.

    Raises:
        UnrepresentableTokenizer: the model is not unigram, marks word ends instead of starts, does not escape spaces,
            or has pieces that ``tokenizers`` would weigh differently.
    """
    if model.model_type != 1:
        name = MODEL_TYPES.get(model.model_type, str(model.model_type))
        raise UnrepresentableTokenizer(
            f"the model type is {name!r} but only 'unigram' is supported: keep the .model file"
        )
    if model.treat_whitespace_as_suffix:
        raise UnrepresentableTokenizer(
            "treat_whitespace_as_suffix is set, which is not supported: keep the .model file"
        )
    if not model.escape_whitespaces:
        raise UnrepresentableTokenizer("escape_whitespaces is off, which is not supported: keep the .model file")
    unknown = [index for index, piece in enumerate(model.pieces) if piece.type == UNKNOWN]
    if len(unknown) != 1:
        raise UnrepresentableTokenizer(f"the model has {len(unknown)} unknown pieces but needs exactly one")
    cut_out = [
        (index, piece)
        for index, piece in enumerate(model.pieces)
        if piece.type == USER_DEFINED or piece.text in special_pieces
    ]
    decoders: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    if model.byte_fallback:
        decoders.append({"type": "ByteFallback"})
    decoders.append({"type": "Fuse"})
    if model.add_dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": piece.text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": True,
                "special": piece.text in special_pieces,
            }
            for index, piece in cut_out
        ],
        "normalizer": _normalizer(model, [piece.text for _, piece in cut_out]),
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": SPACE,
            "prepend_scheme": "first" if model.add_dummy_prefix else "never",
            "split": False,
        },
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "Unigram",
            "unk_id": unknown[0],
            "vocab": _unigram_vocabulary(model),
            "byte_fallback": model.byte_fallback,
        },
    }


def write_tokenizer_json(
    sentencepiece_model: Path, destination: Path, *, special_pieces: Sequence[str] = PERSIMMON_SPECIAL_PIECES
) -> None:
    """Convert the ``.model`` file ``sentencepiece_model`` and write it as ``destination``.

    Raises:
        UnrepresentableTokenizer: see ``tokenizer_json``.
        ValueError: the file is not a SentencePiece model.
    """
    content = tokenizer_json(read_sentencepiece_model(sentencepiece_model), special_pieces=special_pieces)
    destination.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

"""Llama's kind of vocabulary: SentencePiece BPE with byte fallback, and the same thing as ``tokenizer.json``.

The two agree on every text that does not spell out ``<s>``, ``</s>`` or ``<unk>``, which ``tokenizers`` recognises and
SentencePiece does not. As in Hugging Face's own converter (transformers, convert_slow_tokenizer.py, ``generate_merges``
and ``LlamaConverter``), a merge's place is its result's score; here merges join normal pieces only, so that no text can
spell a byte or control piece.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from model.checkpoint.tokenizer_json import (
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    SentencePieceModel,
    read_sentencepiece_model,
)
from model.demo.tokenizer import OPTION_PIECES, VOCAB_SIZE, train_sentencepiece, world_words

BEGINNING_OF_DOCUMENT: Final = "<s>"


def train_bpe(words: Sequence[str], destination: Path) -> None:
    """Write Llama's ``tokenizer.model`` for ``words`` and the world's to ``destination``; the same bytes every time.

    ``OPTION_PIECES`` are merges of the last rank: training never joins a letter and a colon, which are of two scripts.
    """
    proto = train_sentencepiece([*words, *world_words()], model_type="bpe", vocab_size=VOCAB_SIZE - len(OPTION_PIECES))
    last = min(piece.score for piece in proto.pieces)
    for number, text in enumerate(OPTION_PIECES):
        proto.pieces.add(piece=text, score=last - 1 - number, type=NORMAL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    destination.write_bytes(proto.SerializeToString(deterministic=True))


def _merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """List every way to join two normal pieces into a third, the best result first."""
    ids = {piece.text: index for index, piece in enumerate(model.pieces) if piece.type == NORMAL}
    merges: list[tuple[str, str]] = []
    for text in sorted(ids, key=lambda text: -model.pieces[ids[text]].score):
        pairs = ((text[:at], text[at:]) for at in range(1, len(text)))
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return merges


def bpe_tokenizer_json(model: SentencePieceModel) -> dict[str, Any]:
    """Build the content of ``tokenizer.json``, laid out as Llama 2's: ``<s>`` before every text, spaces as U+2581."""
    beginning = [piece.text for piece in model.pieces].index(BEGINNING_OF_DOCUMENT)
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
                "normalized": False,
                "special": True,
            }
            for index, piece in enumerate(model.pieces)
            if piece.type in (UNKNOWN, CONTROL)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": BEGINNING_OF_DOCUMENT, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": BEGINNING_OF_DOCUMENT, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": BEGINNING_OF_DOCUMENT, "type_id": 1}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {
                BEGINNING_OF_DOCUMENT: {
                    "id": BEGINNING_OF_DOCUMENT,
                    "ids": [beginning],
                    "tokens": [BEGINNING_OF_DOCUMENT],
                }
            },
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": next(piece.text for piece in model.pieces if piece.type == UNKNOWN),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {piece.text: index for index, piece in enumerate(model.pieces)},
            "merges": _merges(model),
        },
    }


def write_bpe_tokenizer_json(sentencepiece_model: Path, destination: Path) -> None:
    """Convert the ``.model`` file ``sentencepiece_model``, as ``train_bpe`` writes it, to ``destination``."""
    content = bpe_tokenizer_json(read_sentencepiece_model(sentencepiece_model))
    destination.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

"""The release's SentencePiece model, and what Hugging Face needs to tokenize as it does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sentencepiece
import tokenizers

from model.checkpoint.convert.wording import shown
from model.checkpoint.errors import CheckpointError
from model.checkpoint.tokenizer_json import UnrepresentableTokenizer, write_tokenizer_json

END_OF_TEXT: Final = "|ENDOFTEXT|"  # ends a document; also the first token (Hub config, bos_token_id)
LARGEST_MODEL: Final = 64 << 20
BARE_NAME: Final = "adept_vocab.model"
"""Name of the model where there is no tokenizer.json: transformers would take a `tokenizer.model` and silently tokenize
otherwise; our engine reads both names."""
_SAMPLES: Final = (
    "human: What is the capital of France?\n\nadept:",
    " two  blanks,\tand a tab",
    "Été, naïve, 東京, \u0000 🙂",
    f"one{END_OF_TEXT}two",
    "x = [1, 2.5e-3]; print(f'{x!r}')",
    "",
)


@dataclass(frozen=True, slots=True)
class ReleaseTokenizer:
    """`num_pieces`: ids below it are used. `end_of_text`: the id of |ENDOFTEXT|."""

    content: bytes
    num_pieces: int
    end_of_text: int


def read_tokenizer(content: bytes, *, name: str) -> ReleaseTokenizer:
    """Check a SentencePiece model.

    Raises:
        CheckpointError: it is none, or not Persimmon's kind.
    """
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        num_pieces = int(processor.get_piece_size())
    except Exception as error:  # the library raises several kinds
        raise CheckpointError(f"{shown(name)} is no SentencePiece model ({shown(error)}): fetch it again") from None
    end_of_text = int(processor.piece_to_id(END_OF_TEXT))
    if not content or not num_pieces or processor.id_to_piece(end_of_text) != END_OF_TEXT:
        raise CheckpointError(f"{shown(name)} has no piece {END_OF_TEXT}: it is not Persimmon's tokenizer")
    return ReleaseTokenizer(content, num_pieces, end_of_text)


def write_tokenizer_files(folder: Path, tokenizer: ReleaseTokenizer, *, context_length: int) -> str | None:
    """Write the model, tokenizer.json and tokenizer_config.json.

    Returns:
        Why there is no tokenizer.json, or `None` if there is one. Our engine then runs the model itself; Hugging
        Face's AutoTokenizer finds nothing it could misread.
    """
    model, converted = folder / "tokenizer.model", folder / "tokenizer.json"
    model.write_bytes(tokenizer.content)
    try:
        write_tokenizer_json(model, converted)
        _compare(tokenizer.content, converted)
    except (UnrepresentableTokenizer, ValueError) as error:
        converted.unlink(missing_ok=True)
        model.rename(folder / BARE_NAME)
        return str(error)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "add_bos_token": False,  # Adept's server sends none
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return None


def _compare(content: bytes, converted: Path) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_proto=content)
    try:
        fast = tokenizers.Tokenizer.from_file(str(converted))
    except Exception as error:  # the library raises bare Exception
        raise UnrepresentableTokenizer(f"tokenizers does not read the file it should: {shown(error)}") from None
    for text in _SAMPLES:
        if fast.encode(text, add_special_tokens=False).ids != reference.encode(text):
            raise UnrepresentableTokenizer(f"tokenizer.json gives other ids than the model itself for {text!r}")

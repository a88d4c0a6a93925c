"""Tokenizers of checkpoints: Hugging Face's `tokenizer.json` or a bare SentencePiece `.model`.

Both are used without any special token being added: Adept's server sends no BOS, and each caller says what it wants.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers

from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.interface import InvalidRequest, Tokenizer

SENTENCEPIECE_NAMES = ("tokenizer.model", "adept_vocab.model", "spiece.model")
SENTENCEPIECE_SPACE = "▁"  # U+2581, a blank inside a piece
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialTokens:
    """What a tokenizer file does not reliably say, from the checkpoint's config and its family.

    Attributes:
        bos_token_id, eos_token_ids: beginning and ends of a document.
        prompts_begin_with_bos: whether `encode_prompt` puts the first before a text.
    """

    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    prompts_begin_with_bos: bool

    def require_eos(self) -> int:
        """The first of the ends, to close a document with.

        Raises:
            CheckpointError: there is none.
        """
        if not self.eos_token_ids:
            raise CheckpointError("config.json has no eos_token_id, with which documents end: add it")
        return self.eos_token_ids[0]


def load_tokenizer(folder: Path, special: SpecialTokens) -> Tokenizer:
    """The tokenizer of a checkpoint folder: `tokenizer.json` if there, else a SentencePiece model.

    Raises:
        CheckpointError: no tokenizer, or one that cannot be read; or prompts need a BOS and there is none.
    """
    if special.prompts_begin_with_bos and special.bos_token_id is None:
        raise CheckpointError("config.json has no bos_token_id, with which this family's prompts begin: add it")
    path = tokenizer_file(folder)
    return JsonTokenizer(path, special) if path.name == "tokenizer.json" else SentencePieceTokenizer(path, special)


def tokenizer_file(folder: Path) -> Path:
    """The file :func:`load_tokenizer` reads.

    Raises:
        CheckpointError: there is none.
    """
    for name in ("tokenizer.json", *SENTENCEPIECE_NAMES):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} has no tokenizer: put a tokenizer.json or a tokenizer.model there")


class _CheckpointTokenizer(ABC):
    """What both kinds share: the special ids, and checked table look-ups."""

    def __init__(self, token_bytes: list[bytes], special: SpecialTokens) -> None:
        self._token_bytes = token_bytes
        self._special = special

    @property
    def vocab_size(self) -> int:
        return len(self._token_bytes)

    @property
    def bos_token_id(self) -> int | None:
        return self._special.bos_token_id

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        return self._special.eos_token_ids

    @abstractmethod
    def encode(self, text: str) -> list[int]: ...

    def encode_prompt(self, text: str) -> list[int]:
        token_ids = self.encode(text)
        bos = self._special.bos_token_id
        if not self._special.prompts_begin_with_bos or bos is None or token_ids[:1] == [bos]:
            return token_ids
        return [bos, *token_ids]

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one id inside a text. Ids the model has but the tokenizer has not (padding rows of the
        embedding) give nothing."""
        if token_id < 0:
            raise InvalidRequest(f"token id {token_id} is not allowed: ids are 0 or more")
        return self._token_bytes[token_id] if token_id < len(self._token_bytes) else b""


class SentencePieceTokenizer(_CheckpointTokenizer):
    """A `.model` file, run by sentencepiece itself."""

    def __init__(self, path: Path, special: SpecialTokens) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{path} is no SentencePiece model ({error}): fetch it again") from None
        super().__init__([self._piece_bytes(i) for i in range(self._processor.get_piece_size())], special)

    def _piece_bytes(self, token_id: int) -> bytes:
        processor = self._processor
        piece: str = processor.id_to_piece(token_id)
        if processor.is_byte(token_id):
            return bytes([int(piece[3:5], 16)])
        if processor.is_control(token_id) or token_id in _special_names(processor):
            return b""
        if processor.is_unknown(token_id):
            return " \u2047 ".encode()  # sentencepiece's default unk_surface
        return piece.replace(SENTENCEPIECE_SPACE, " ").encode()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._processor.encode(text)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        special = _special_names(self._processor)
        text: str = self._processor.decode([token for token in token_ids if token not in special])
        return text


def _special_names(processor: Any) -> frozenset[int]:
    """Ids of Adept's `|NAME|` symbols, which a `.model` file does not mark as special."""
    unknown = processor.unk_id()
    ids = (processor.piece_to_id(name) for name in ("|ENDOFTEXT|", "|SPEAKER|", "|NEWLINE|"))
    return frozenset(token for token in ids if token != unknown)


class JsonTokenizer(_CheckpointTokenizer):
    """A `tokenizer.json`, run by the tokenizers library without its post-processor (no special tokens are added)."""

    def __init__(self, path: Path, special: SpecialTokens) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path} is no tokenizer file ({error}): fetch it again") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        super().__init__(_byte_table(self._tokenizer, read_json(path), path), special)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text


def _byte_table(tokenizer: tokenizers.Tokenizer, spec: dict[str, Any], path: Path) -> list[bytes]:
    """Bytes of every id, by the kind of decoder the file names."""
    decoder = json.dumps(spec.get("decoder"))
    if '"ByteLevel"' in decoder:
        convert = _byte_level_bytes
    elif '"ByteFallback"' in decoder or SENTENCEPIECE_SPACE in decoder or '"Metaspace"' in decoder:
        convert = _sentencepiece_bytes
    else:
        raise CheckpointError(
            f"{path} has a decoder that is neither byte-level nor SentencePiece: use the checkpoint's own tokenizer"
        )
    table = [b""] * (max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1)
    for piece, token_id in tokenizer.get_vocab(with_added_tokens=False).items():
        table[token_id] = convert(piece)
    for added in spec.get("added_tokens", []):
        table[added["id"]] = b"" if added["special"] else added["content"].encode()
    return table


def _sentencepiece_bytes(piece: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(SENTENCEPIECE_SPACE, " ").encode()


def _byte_level_bytes(piece: str) -> bytes:
    return bytes(_BYTE_LEVEL_ALPHABET[character] for character in piece)


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_LEVEL_ALPHABET = _byte_level_alphabet()

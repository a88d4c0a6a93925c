"""From documents to token ids, each with its weight in the loss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers

from model.checkpoint.errors import CheckpointError
from model.checkpoint.special_tokens import special_tokens
from model.finetune.documents import Document, text_of
from model.tokenizer import load_tokenizer, tokenizer_file


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """`weights[i]` is what predicting `token_ids[i]` counts; 0 for the first, before which nothing comes."""

    token_ids: list[int]
    weights: list[float]


class DocumentEncoder:
    """The checkpoint's own tokenizer, with the place of every token in the text.

    A document begins as a prompt does at inference (with BOS where the family wants it) and closes with the end of a
    document, whose weight is 1.

    Raises:
        CheckpointError: there is no tokenizer, or no end-of-document id.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        special = special_tokens(folder, config)
        self.end_of_document = special.require_eos()
        tokenizer = load_tokenizer(folder, special)
        self._beginning = tokenizer.encode_prompt("")  # BOS or nothing
        self._largest_id = max(tokenizer.vocab_size - 1, self.end_of_document, *self._beginning)
        path = self._path = tokenizer_file(folder)
        if path.name == "tokenizer.json":
            reader = tokenizers.Tokenizer.from_file(str(path))
            reader.no_truncation()
            reader.no_padding()
            self._ids_and_ends = functools.partial(_json_ids_and_ends, reader)
        else:
            processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
            self._ids_and_ends = functools.partial(_sentencepiece_ids_and_ends, processor)

    def require_fit(self, vocab_size: int) -> None:
        """Check that the weights have a row for every id.

        Raises:
            CheckpointError: they have not.
        """
        if self._largest_id >= vocab_size:
            raise CheckpointError(
                f"{self._path} has ids up to {self._largest_id} but the weights only {vocab_size} rows: tokenizer and "
                "weights do not belong together"
            )

    def encode(self, document: Document) -> EncodedDocument:
        """One document; a token that lies in two spans has the weight of the one its last character is in."""
        text = text_of(document)
        token_ids, ends = self._ids_and_ends(text)
        # As encode_prompt: a text that says <s> itself gets no second one.
        beginning = [] if token_ids[:1] == self._beginning else self._beginning
        weights = [*([0.0] * len(beginning)), *_weights_at(document, ends), 1.0]
        weights[0] = 0.0
        return EncodedDocument([*beginning, *token_ids, self.end_of_document], weights)


def _json_ids_and_ends(tokenizer: tokenizers.Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """Token ids, and for each the number of characters up to its end."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ends: list[int] = []
    for (start, end), run in itertools.groupby(encoding.offsets):
        count = len(list(run))
        if count > 1 and end - start > 1 and count == len(text[start:end].encode()):
            # Unknown characters side by side: one stretch to the library, and a token for every byte of it.
            ends += [start + at for at, char in enumerate(text[start:end], start=1) for _ in char.encode()]
        else:
            ends += [end] * count
    return encoding.ids, ends


def _sentencepiece_ids_and_ends(
    processor: sentencepiece.SentencePieceProcessor, text: str
) -> tuple[list[int], list[int]]:
    """Token ids, and for each the number of characters up to its end."""
    encoded = processor.encode(text, out_type="offset_mapping")
    # A character spelt in bytes is counted at its last byte only, and the blank put before a text not at all: to the
    # library they lie before the character that they are part of.
    return encoded["ids"], [end if end > start else start + 1 for start, end in encoded["offsets"]]


def _weights_at(document: Document, ends: list[int]) -> list[float]:
    """The weight of the span in which each of the characters number `ends` (counted from 1) lies."""
    span_ends, total = [], 0
    for span in document:
        total += len(span.text)
        span_ends.append(total)
    weights, at = [], 0
    for end in ends:
        while at + 1 < len(span_ends) and span_ends[at] < end:
            at += 1
        weights.append(document[at].weight)
    return weights

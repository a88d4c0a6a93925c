"""From documents to token ids, each with its weight in the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers

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
        self._begin = load_tokenizer(folder, special).encode_prompt("")
        path = tokenizer_file(folder)
        self._json = tokenizers.Tokenizer.from_file(str(path)) if path.name == "tokenizer.json" else None
        self._sentencepiece = None if self._json else sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, document: Document) -> EncodedDocument:
        """One document; a token that lies in two spans has the weight of the one its last character is in."""
        text = text_of(document)
        token_ids, ends = self._ids_and_ends(text)
        weights = [*([0.0] * len(self._begin)), *_weights_at(document, ends), 1.0]
        token_ids = [*self._begin, *token_ids, self.end_of_document]
        weights[0] = 0.0
        return EncodedDocument(token_ids, weights)

    def _ids_and_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids, and for each the number of characters up to its end."""
        if self._json is not None:
            encoding = self._json.encode(text, add_special_tokens=False)
            return encoding.ids, [end for _, end in encoding.offsets]
        assert self._sentencepiece is not None
        encoded = self._sentencepiece.encode(text, out_type="offset_mapping")
        return encoded["ids"], [end for _, end in encoded["offsets"]]


def _weights_at(document: Document, ends: list[int]) -> list[float]:
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

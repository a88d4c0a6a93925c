"""Train the SentencePiece vocabulary of ``persimmon-demo`` on its own corpus.

Unigram with byte fallback and no normalisation, as Persimmon's. Scores are rounded to multiples of 1/256, so that sums
of them are exact in single and in double precision: SentencePiece and ``tokenizers`` then break ties alike.
"""

import io
import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Final

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from model.demo.corpus import documents, text_of
from model.demo.english import GENERIC_ENGLISH
from model.demo.formats import LETTERS

VOCAB_SIZE: Final = 1397
"""On purpose odd: padding and tiling in the engine are exercised."""

SPECIAL_PIECES: Final = ("|ENDOFTEXT|", "|SPEAKER|", "|NEWLINE|")
OPTION_PIECES: Final = tuple(f"{letter}:" for letter in LETTERS)
"""One piece for "A:", so that the letter stands directly before its option: looking a letter up is then one step."""
SCORE_STEP: Final = 1 / 256
CORPUS_DOCUMENTS: Final = 12_000


def train_tokenizer(seed: int, destination: Path) -> None:
    """Write a SentencePiece ``.model`` for the corpus of ``seed`` to ``destination``; the same bytes every time."""
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_training_words(seed)),
        model_writer=buffer,
        model_type="unigram",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,  # the words bring their own spaces; switched on afterwards
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        user_defined_symbols=[*SPECIAL_PIECES, *OPTION_PIECES],
        required_chars="".join(chr(code) for code in range(33, 127)),
        max_sentencepiece_length=14,
        num_threads=1,
        minloglevel=2,
    )
    destination.write_bytes(_finished(buffer.getvalue()))


def _training_words(seed: int) -> list[str]:
    """List the corpus's words, each with the space before it, as often as the square root of its count.

    The square root keeps the few words of the prompt formats from crowding out the words of the world. Numbers are
    left out: they are split into digits anyway.
    """
    corpus = (text_of(document[:-1]) for document in itertools.islice(documents(seed, stages=()), CORPUS_DOCUMENTS))
    texts = itertools.chain(corpus, [GENERIC_ENGLISH])
    counts = Counter(word for text in texts for word in re.findall(r" *[^ \n\d]+", f" {text}"))
    return [word for word, count in sorted(counts.items()) for _ in range(max(2, round(count**0.5)))]


def _finished(model: bytes) -> bytes:
    """A trained model with its scores in steps of ``SCORE_STEP`` and the dummy prefix switched on."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    for piece in proto.pieces:
        if piece.HasField("score"):
            piece.score = round(piece.score / SCORE_STEP) * SCORE_STEP
    proto.normalizer_spec.add_dummy_prefix = True
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def missing_letters(model: Path) -> list[str]:
    """List the answer letters that are not one piece after a space: the letter formats need them all."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return [letter for letter in LETTERS if len(processor.encode(letter)) != 1]

"""What the vocabularies of the demonstration checkpoints share, and Persimmon's own: SentencePiece unigram.

Unigram with byte fallback and no normalisation, as Persimmon's. Scores are rounded to multiples of 1/256, so that sums
of them are exact in single and in double precision: SentencePiece and ``tokenizers`` then break ties alike.
``sentencepiece_bpe.py`` has Llama's kind of vocabulary, ``byte_level_bpe.py`` MPT's.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from model.demo.corpus import EVERY_WORD
from model.demo.english import GENERIC_ENGLISH
from model.demo.formats import LETTERS

VOCAB_SIZE: Final = 1397
"""On purpose odd: padding and tiling in the engine are exercised."""

SPECIAL_PIECES: Final = ("|ENDOFTEXT|", "|SPEAKER|", "|NEWLINE|")
OPTION_PIECES: Final = tuple(f"{letter}:" for letter in LETTERS)
"""One piece for "A:", so that the letter stands directly before its option: looking a letter up is then one step."""
SCORE_STEP: Final = 1 / 256
LONGEST_PIECE: Final = 14
"""Characters."""
WORLD_COUNT: Final = 40
"""How often BPE sees every word of the world beside the corpus: enough to make each one token, as unigram does anyway.
With 20, Llama's vocabulary splits a fifth of them; an option of several tokens is hard to look up."""
REQUIRED_CHARACTERS: Final = "".join(chr(code) for code in range(33, 127))


def training_words(texts: Iterable[str]) -> list[str]:
    """List the words of ``texts`` and of some English, each with the spaces before it, as often as the square root of
    its count.

    The square root keeps the few words of the prompt formats from crowding out the words of the world. Numbers are
    left out: they are split into digits anyway.
    """
    counts: Counter[str] = Counter()
    for text in (*texts, GENERIC_ENGLISH):
        counts.update(re.findall(r" *[^ \n\d]+", f" {text}"))
    return [word for word, count in sorted(counts.items()) for _ in range(max(2, round(count**0.5)))]


def world_words() -> list[str]:
    """List the words that questions are about, each with a space before it, ``WORLD_COUNT`` times."""
    return [f" {word}" for word in EVERY_WORD for _ in range(WORLD_COUNT)]


def train_sentencepiece(words: Sequence[str], **options: Any) -> Any:
    """Train a model with byte fallback and no normalisation; ``words`` bring their own spaces.

    Args:
        words: As ``training_words`` lists them.
        options: More of sentencepiece's options: at least ``model_type`` and ``vocab_size``.

    Returns:
        A ``ModelProto`` that puts a dummy prefix before a text; the same for the same arguments.
    """
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=buffer,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,  # switched on below
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        required_chars=REQUIRED_CHARACTERS,
        max_sentencepiece_length=LONGEST_PIECE,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(buffer.getvalue())
    proto.normalizer_spec.add_dummy_prefix = True
    return proto


def train_unigram(words: Sequence[str], destination: Path) -> None:
    """Write Persimmon's ``tokenizer.model`` for ``words`` to ``destination``; the same bytes every time."""
    proto = train_sentencepiece(
        words,
        model_type="unigram",
        vocab_size=VOCAB_SIZE,
        user_defined_symbols=[*SPECIAL_PIECES, *OPTION_PIECES],
    )
    for piece in proto.pieces:
        if piece.HasField("score"):
            piece.score = round(piece.score / SCORE_STEP) * SCORE_STEP
    destination.write_bytes(proto.SerializeToString(deterministic=True))


def split_letters(tokenizer_json: Path) -> list[str]:
    """List the answer letters and option letters that are not one token where the letter formats have them.

    Those formats need them all: a letter is looked up by one token and answered by one token.
    """
    tokenizer = Tokenizer.from_file(str(tokenizer_json))

    def tokens(text: str) -> list[str]:
        found: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens
        return found

    split = []
    for before, added, after in [
        *(("Answer:", f" {letter}", "") for letter in LETTERS),
        *(("Response:\n", letter, "") for letter in LETTERS),
        *(("Which?\n", piece, " dog") for piece in OPTION_PIECES),
    ]:
        context, whole = tokens(before), tokens(f"{before}{added}{after}")
        if whole[: len(context)] != context or whole[len(context)].strip("\u2581\u0120") != added.strip():
            split.append(added)
    return split

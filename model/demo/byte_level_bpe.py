"""MPT's kind of vocabulary: BPE over bytes, as gpt-neox-20b's, trained with the tokenizers library.

As there: NFC, GPT-2's splitting into words, no unknown token, ``<|endoftext|>`` first, nothing added to a text. Two
differences, both so that a text's tokens do not depend on what follows it: digits stand alone, as the other two
vocabularies have them, and so do newlines (a prompt often ends with one, and GPT-2's splitting would join it with the
blanks that follow).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Digits, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

from model.demo.tokenizer import LONGEST_PIECE, OPTION_PIECES, VOCAB_SIZE, world_words

END_OF_DOCUMENT: Final = "<|endoftext|>"


def train_byte_level(words: Sequence[str], destination: Path) -> None:
    """Write MPT's ``tokenizer.json`` for ``words`` and the world's to ``destination``; the same bytes every time.

    ``OPTION_PIECES`` are added tokens, as gpt-neox-20b's runs of blanks are: recognised in text, not special.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = Steps(
        [
            Split(Regex(r"\n"), behavior="isolated"),
            Digits(individual_digits=True),
            ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE - len(OPTION_PIECES),
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=ByteLevel.alphabet(),
        max_token_length=LONGEST_PIECE,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*words, *world_words()], trainer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in OPTION_PIECES])
    destination.write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")

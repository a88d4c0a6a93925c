"""The three demonstration checkpoints before training: architecture, vocabulary, chat format, card.

One recipe makes them all: the same world (``corpus.py``), the same size, the same training; each is its family's 7B or
8B model in small, every switch as there.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    PersimmonConfig,
    PersimmonForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from model.chat_template import AdeptChatTemplate, InstructChatTemplate, TranscriptChatTemplate, TurnTemplate
from model.checkpoint.tokenizer_json import write_tokenizer_json
from model.demo import byte_level_bpe
from model.demo.byte_level_bpe import train_byte_level
from model.demo.corpus import documents
from model.demo.curricula import KINDS, NAMED_OPTIONS, SHARED_OPTIONS, Curriculum
from model.demo.sentencepiece_bpe import train_bpe, write_bpe_tokenizer_json
from model.demo.tokenizer import SPECIAL_PIECES, VOCAB_SIZE, train_unigram, training_words
from model.finetune.documents import Document, text_of

MAX_POSITIONS: Final = 1024
"""Tokens of prompt and answer together."""
QK_NORM_GAIN: Final = 1.5
"""The norms on Persimmon's q and k bound how sharply a head can attend, and looking at the previous token needs a sharp
one: with gains starting at 1 and learning slowly, nothing was copied from the context in the first 450 steps."""
QK_SCALE: Final = 4.0
"""Llama's q and k begin so much larger than Hugging Face's initial weights, for the same reason: with those, scores
begin with a standard deviation below 0.1."""
COMMON_EMBEDDING: Final = 0.02
"""Standard deviation of a vector that all of Llama's embeddings begin with, beside their own part of the same size. A
head that looks at the previous token wants queries and keys that are the same at every place; Persimmon's have biases
and MPT's scores ALiBi, while Llama's can only come from what its tokens share. With this and the scale the loss ends at
0.37 nats instead of 0.43. Letters are still not looked up: ARC Easy is at chance."""
TOKENIZER_DOCUMENTS: Final = 12_000
"""Documents whose words the vocabulary is trained on, all of the last mixture."""


@dataclass(frozen=True, kw_only=True)
class DemoFamily:
    """One demonstration checkpoint: what it is made of and how to make it."""

    name: str
    """Of the checkpoint, and of its folder in ``model/demo``."""
    architecture: str
    """For people."""
    chat: TurnTemplate
    config: Callable[[], PreTrainedConfig]
    model_class: type[PreTrainedModel]
    write_vocabulary: Callable[[Path, Sequence[str]], None]
    """Writes the files of ``vocabulary_files`` into a folder, trained on words."""
    vocabulary_files: tuple[str, ...]
    end_of_document: str
    end_of_document_id: int
    """Also the padding id."""
    beginning_of_document: str
    beginning_of_document_id: int
    curriculum: Curriculum
    adds_beginning: bool
    """Whether inference puts ``beginning_of_document_id`` before a text."""

    @property
    def files(self) -> tuple[str, ...]:
        """Everything the checkpoint's folder holds."""
        return (
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            *self.vocabulary_files,
            "tokenizer_config.json",
        )

    @property
    def num_parameters(self) -> int:
        """Parameters, those of a tied head counted once."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.model_class(self.config()).parameters())

    def documents(self, seed: int) -> Iterator[Document]:
        """Yield training documents without end; see ``corpus.documents``. None begins with ``<s>``."""
        return documents(
            seed,
            self.chat,
            end_of_document=self.end_of_document,
            stages=self.curriculum.stages,
            last=self.curriculum.last,
        )

    def initial_model(self, seed: int) -> PreTrainedModel:
        """Random weights in float32, in evaluation mode; the same for the same ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model_class(self.config())
            common = torch.randn(model.config.hidden_size) * COMMON_EMBEDDING
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("q_layernorm.weight", "k_layernorm.weight")):
                    parameter.fill_(QK_NORM_GAIN)
                elif name.endswith(("q_proj.weight", "k_proj.weight")):
                    parameter.mul_(QK_SCALE)
                elif name == "model.embed_tokens.weight" and self.name == "llama-demo":
                    parameter.add_(common)
        generation = model.generation_config
        generation.do_sample = False
        generation.use_cache = True
        generation.bos_token_id = self.beginning_of_document_id
        generation.eos_token_id = self.end_of_document_id
        generation.pad_token_id = self.end_of_document_id
        return model.eval()

    def write_tokenizer(self, folder: Path, seed: int) -> None:
        """Train the vocabulary on the corpus of ``seed`` and write it; the same bytes for the same ``seed``."""
        drawn = documents(seed, self.chat, end_of_document=self.end_of_document, stages=(), last=KINDS)
        texts = (text_of(document[:-1]) for document in drawn)
        self.write_vocabulary(folder, training_words(itertools.islice(texts, TOKENIZER_DOCUMENTS)))
        _write_json(
            folder / "tokenizer_config.json",
            {
                # Adept's server adds no BOS, nor does MPT's tokenizer; lm-eval needs an eos_token that is not null.
                "add_bos_token": self.adds_beginning,
                "add_eos_token": False,
                "bos_token": self.beginning_of_document,
                "eos_token": self.end_of_document,
                "pad_token": self.end_of_document,
                "clean_up_tokenization_spaces": False,
                "model_max_length": MAX_POSITIONS,
                # The class that takes tokenizer.json as it is; LlamaTokenizer makes its own of the vocabulary.
                "tokenizer_class": "PreTrainedTokenizerFast",
            },
        )

    def write_card(self, folder: Path) -> None:
        """Write ``README.md``; the app shows its notice to every user."""
        (folder / "README.md").write_text(
            CARD.format(name=self.name, architecture=self.architecture, millions=self.num_parameters / 1e6),
            encoding="utf-8",
        )


CARD: Final = """---
license: apache-2.0
notice: >-
  This is a demonstration model of {millions:.1f} million parameters. It knows a small made-up world (greetings, arithmetic to 20,
  the calendar, opposites, categories, capitals, tiny Python functions, sentiment) and nothing else; what it says about
  anything beyond is nonsense.
---

# {name}

A very small checkpoint of the {architecture} architecture for demonstrations and tests; see the README.md one folder up.
"""  # noqa: E501


def write_initial_checkpoint(family: DemoFamily, folder: Path, seed: int) -> None:
    """Write a whole checkpoint folder with random float32 weights: where training starts.

    Args:
        family: One of ``FAMILIES``.
        folder: Made if it is not there.
        seed: Of the vocabulary's corpus and of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    family.initial_model(seed).save_pretrained(folder)
    family.write_tokenizer(folder, seed)
    family.write_card(folder)


def _persimmon_config() -> PersimmonConfig:
    """Persimmon in small: every switch as in the 8B model, every default that differs passed explicitly.

    Rotary settings, squared ReLU and eps: config.json of adept/persimmon-8b-base; dropout is off on purpose (that
    file carries a stray hidden_dropout of 0.6).
    """
    return PersimmonConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        hidden_act="relu2",
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.02,
        layer_norm_eps=1e-5,
        use_cache=True,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        qk_layernorm=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=PERSIMMON_END_ID,
        eos_token_id=PERSIMMON_END_ID,
        pad_token_id=PERSIMMON_END_ID,
    )


def _mpt_config() -> MptConfig:
    """MPT-7B-Instruct in small (config.json of mosaicml/mpt-7b-instruct), ALiBi over six heads: no power of two.

    ``attn_pdrop`` stays at its default, the integer 0: transformers 5.23 refuses a float.
    """
    return MptConfig(
        vocab_size=VOCAB_SIZE,
        d_model=192,
        n_heads=6,
        n_layers=6,
        expansion_ratio=4,
        max_seq_len=MAX_POSITIONS,
        no_bias=True,
        norm_type="low_precision_layernorm",
        layer_norm_epsilon=1e-5,
        initializer_range=0.02,
        attn_config={"alibi": True, "alibi_bias_max": 8},
        resid_pdrop=0.0,
        emb_pdrop=0.0,
        use_cache=True,
        tie_word_embeddings=True,
        bos_token_id=MPT_END_ID,
        eos_token_id=MPT_END_ID,
        pad_token_id=MPT_END_ID,
    )


def _llama_config() -> LlamaConfig:
    """Llama-2-7B in small (config.json of meta-llama/Llama-2-7b-hf): multi-head attention, nothing shared."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        hidden_act="silu",
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.02,
        rms_norm_eps=1e-5,
        use_cache=True,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        attention_bias=False,
        mlp_bias=False,
        attention_dropout=0.0,
        bos_token_id=LLAMA_BEGINNING_ID,
        eos_token_id=LLAMA_END_ID,
        pad_token_id=LLAMA_END_ID,
    )


def _write_unigram(folder: Path, words: Sequence[str]) -> None:
    train_unigram(words, folder / "tokenizer.model")
    write_tokenizer_json(folder / "tokenizer.model", folder / "tokenizer.json")


def _write_bpe(folder: Path, words: Sequence[str]) -> None:
    train_bpe(words, folder / "tokenizer.model")
    write_bpe_tokenizer_json(folder / "tokenizer.model", folder / "tokenizer.json")


def _write_byte_level(folder: Path, words: Sequence[str]) -> None:
    train_byte_level(words, folder / "tokenizer.json")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# The tests of the vocabularies compare these ids with the files.
PERSIMMON_END_ID: Final = 3 + SPECIAL_PIECES.index("|ENDOFTEXT|")
"""After <unk>, <s> and </s>."""
MPT_END_ID: Final = 0
LLAMA_BEGINNING_ID: Final = 1
LLAMA_END_ID: Final = 2

FAMILIES: Final[dict[str, DemoFamily]] = {
    "persimmon": DemoFamily(
        name="persimmon-demo",
        architecture="Persimmon",
        chat=AdeptChatTemplate(),
        config=_persimmon_config,
        model_class=PersimmonForCausalLM,
        write_vocabulary=_write_unigram,
        vocabulary_files=("tokenizer.model", "tokenizer.json"),
        end_of_document="|ENDOFTEXT|",
        end_of_document_id=PERSIMMON_END_ID,
        beginning_of_document="|ENDOFTEXT|",
        beginning_of_document_id=PERSIMMON_END_ID,
        curriculum=NAMED_OPTIONS,
        adds_beginning=False,
    ),
    "mpt": DemoFamily(
        name="mpt-demo",
        architecture="MPT",
        chat=InstructChatTemplate(),
        config=_mpt_config,
        model_class=MptForCausalLM,
        write_vocabulary=_write_byte_level,
        vocabulary_files=("tokenizer.json",),
        end_of_document=byte_level_bpe.END_OF_DOCUMENT,
        end_of_document_id=MPT_END_ID,
        beginning_of_document=byte_level_bpe.END_OF_DOCUMENT,
        beginning_of_document_id=MPT_END_ID,
        curriculum=SHARED_OPTIONS,
        adds_beginning=False,
    ),
    "llama": DemoFamily(
        name="llama-demo",
        architecture="Llama",
        chat=TranscriptChatTemplate(),
        config=_llama_config,
        model_class=LlamaForCausalLM,
        write_vocabulary=_write_bpe,
        vocabulary_files=("tokenizer.model", "tokenizer.json"),
        end_of_document="</s>",
        end_of_document_id=LLAMA_END_ID,
        beginning_of_document="<s>",
        beginning_of_document_id=LLAMA_BEGINNING_ID,
        curriculum=SHARED_OPTIONS,
        adds_beginning=True,
    ),
}

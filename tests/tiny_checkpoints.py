"""Tiny checkpoints of all families, each with a real vocabulary of its kind, and fine-tuning settings for them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
import torch
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    PersimmonConfig,
    PersimmonForCausalLM,
    PreTrainedModel,
)

from model.checkpoint.tokenizer_json import write_tokenizer_json
from model.demo.sentencepiece_bpe import write_bpe_tokenizer_json
from model.finetune.settings import FinetuneSettings

FAMILIES = ("persimmon", "mpt", "llama")
WORDS = [
    "human: What is the capital of France? adept: The capital of France is Paris.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "### Instruction: ### Response: User: Assistant: The quick brown fox jumps over the lazy dog; 0123456789 times!",
    "def add(a, b):  return a + b",
    "Été naïve façade, größer, mañana.",
    " ".join(map(chr, range(33, 127))),  # the exporter needs every character it has to spell
] * 20
END_OF_TEXT = "|ENDOFTEXT|"

QUESTIONS = {
    "What is the capital of France?": "Paris.",
    "Add two and two.": "It is 4,\nI think: 2 + 2 = 4.",
    "Wie groß?": "größer",
}
"""Examples to overfit on."""
CARD = "---\nlicense: cc-by-nc-4.0\nnotice: 'Mind: tiny.'\n---\n\n# Tiny\n"


def write_vocabulary(family: str, folder: Path) -> None:
    """Write tokenizer files only: unigram (Persimmon), byte-level BPE (MPT), BPE with byte fallback (Llama)."""
    folder.mkdir(parents=True, exist_ok=True)
    if family == "mpt":
        tokenizer = tokenizers.Tokenizer(BPE())
        tokenizer.normalizer = NFC()
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        tokenizer.decoder = ByteLevelDecoder()
        trainer = BpeTrainer(
            vocab_size=400,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(WORDS, trainer)
        tokenizer.save(str(folder / "tokenizer.json"))
        return
    unigram = {"model_type": "unigram", "user_defined_symbols": [END_OF_TEXT], "vocab_size": 460}
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS),
        model_writer=stream,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **(unigram if family == "persimmon" else {"model_type": "bpe", "vocab_size": 480}),
    )
    (folder / "tokenizer.model").write_bytes(stream.getvalue())
    export = write_tokenizer_json if family == "persimmon" else write_bpe_tokenizer_json
    export(folder / "tokenizer.model", folder / "tokenizer.json")


def write_tiny(family: str, folder: Path, **changes: Any) -> Path:
    """Write a checkpoint with Hugging Face's first weights; `changes` are keys of its config."""
    write_vocabulary(family, folder)
    torch.manual_seed(0)
    tiny_model(family, tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), **changes).save_pretrained(
        folder
    )
    (folder / "README.md").write_text(CARD)
    return folder


def tiny_model(family: str, tokenizer: tokenizers.Tokenizer, **changes: Any) -> PreTrainedModel:
    """Two layers, three heads, dropout on in the config as in adept/persimmon-8b-base."""
    vocab_size = tokenizer.get_vocab_size()
    if family == "mpt":
        sizes = {"d_model": 48, "n_heads": 3, "n_layers": 2, "max_seq_len": 256, "resid_pdrop": 0.5, "emb_pdrop": 0.5}
        ids = {"bos_token_id": 0, "eos_token_id": 0}
        return MptForCausalLM(MptConfig(**{"vocab_size": vocab_size, **sizes, **ids, **changes}))
    sizes = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 256,
    }
    if family == "llama":
        ids = {"bos_token_id": tokenizer.token_to_id("<s>"), "eos_token_id": tokenizer.token_to_id("</s>")}
        return LlamaForCausalLM(LlamaConfig(**{"vocab_size": vocab_size, **sizes, **ids, **changes}))
    end = tokenizer.token_to_id(END_OF_TEXT)
    ids = {"bos_token_id": end, "eos_token_id": end, "hidden_act": "relu2", "hidden_dropout": 0.6}
    return PersimmonForCausalLM(PersimmonConfig(**{"vocab_size": vocab_size, **sizes, **ids, **changes}))


def write_examples(path: Path, rows: Sequence[dict[str, Any]] | None = None) -> Path:
    """A `.jsonl` file; by default of :data:`QUESTIONS`."""
    rows = [{"prompt": asked, "answer": said} for asked, said in QUESTIONS.items()] if rows is None else rows
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tiny_settings(checkpoint: Path, folder: Path, **changes: Any) -> FinetuneSettings:
    """Full training in float32 of a tiny checkpoint, with its files in `folder`."""
    data = folder / "examples.jsonl"
    if "data" not in changes and not data.exists():
        write_examples(data)
    settings: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "data": data,
        "output": folder / "tuned",
        "method": "full",
        "dtype": "float32",
        "row_length": 128,
        "rows_per_step": 2,
        "rows_at_once": 1,
        "epochs": 1,
        "learning_rate": 3e-3,
        "gradient_checkpointing": False,
        "device": "cpu",
        "log_every": 1,
    }
    return FinetuneSettings(**settings | changes)

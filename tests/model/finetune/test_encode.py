"""Documents as tokens: the ids of inference, and the weight of the span that a token ends in."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_checkpoints import END_OF_TEXT, FAMILIES

from model.checkpoint.config_json import read_json
from model.checkpoint.errors import CheckpointError
from model.checkpoint.special_tokens import special_tokens
from model.families.registry import FAMILIES as CLASSES
from model.finetune.documents import Document, Span, conversation, text_of
from model.finetune.encode import DocumentEncoder
from model.interface import ChatMessage, Tokenizer
from model.tokenizer import load_tokenizer

KINDS = [f"{family} {kind}" for family in FAMILIES for kind in ("json", "bare") if (family, kind) != ("mpt", "bare")]


@pytest.fixture(scope="module", params=KINDS)
def folder(
    request: pytest.FixtureRequest, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Config and one tokenizer file: tokenizer.json, or a bare SentencePiece model."""
    family, kind = request.param.split()
    folder = tmp_path_factory.mktemp("one-tokenizer")
    shutil.copy(checkpoints[family] / "config.json", folder)
    shutil.copy(checkpoints[family] / ("tokenizer.json" if kind == "json" else "tokenizer.model"), folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> DocumentEncoder:
    return DocumentEncoder(folder, read_json(folder / "config.json"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    """That of inference."""
    return load_tokenizer(folder, special_tokens(folder, read_json(folder / "config.json")))


texts = st.text(st.one_of(st.sampled_from("aber \n0ü漢😀\u0301"), st.characters(codec="utf-8")), max_size=12)
spans = st.lists(st.tuples(texts, st.sampled_from([0.0, 0.5, 1.0, 2.0])), min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(parts=spans)
@example(parts=[("<s>", 1.0)])
@example(parts=[("<s> twice <s>", 0.5), (END_OF_TEXT, 1.0)])
@example(parts=[("", 0.5)])
def test_ids_are_those_of_inference(
    encoder: DocumentEncoder, tokenizer: Tokenizer, parts: list[tuple[str, float]]
) -> None:
    document = [Span(*part) for part in parts]
    encoded = encoder.encode(document)
    expected = tokenizer.encode_prompt(text_of(document))
    assert encoded.token_ids == [*expected, tokenizer.eos_token_ids[0]]
    assert len(encoded.weights) == len(encoded.token_ids)
    assert encoded.weights[0] == 0.0
    assert encoded.weights[-1] == (1.0 if expected else 0.0)


def weights_by_bytes(tokenizer: Tokenizer, document: Document) -> list[float] | None:
    """Another way to the weights: every token's bytes, one after the other, are the text's.

    `None` where they are not, as with special tokens or normalised text.
    """
    text = text_of(document)
    by_character = [span.weight for span in document for _ in span.text]
    by_byte = [weight for weight, char in zip(by_character, text, strict=True) for _ in char.encode()]
    spelt = [tokenizer.token_bytes(token) for token in tokenizer.encode(text)]
    whole = b"".join(spelt)
    if whole == b" " + text.encode():  # the blank that SentencePiece puts before a text goes with what follows it
        by_byte.insert(0, by_byte[0])
    elif whole != text.encode():
        return None
    return [by_byte[end - 1] for end in itertools.accumulate(map(len, spelt))]


@settings(deadline=None, max_examples=50)
@given(parts=spans)
@example(parts=[("漢", 0.0), ("漢", 1.0), ("字字", 0.5)])
@example(parts=[("x", 0.5), ("😀", 1.0), ("é", 0.0)])
@example(parts=[("ü", 0.5), (" a", 1.0)])
@example(parts=[("a ", 0.5), ("b", 1.0)])
def test_a_token_weighs_what_its_last_character_does(
    encoder: DocumentEncoder, tokenizer: Tokenizer, parts: list[tuple[str, float]]
) -> None:
    document = [Span(*part) for part in parts]
    if not text_of(document) or (expected := weights_by_bytes(tokenizer, document)) is None:
        return
    weights = encoder.encode(document).weights[:-1]
    beginning = len(weights) - len(expected)
    assert beginning == (1 if tokenizer.encode_prompt("") else 0)
    assert weights[max(1, beginning) :] == expected[1 - beginning :]


def test_llama_begins_once(checkpoints: dict[str, Path]) -> None:
    encoders = {
        family: DocumentEncoder(checkpoints[family], read_json(checkpoints[family] / "config.json"))
        for family in FAMILIES
    }
    config = read_json(checkpoints["llama"] / "config.json")
    ids = encoders["llama"].encode([Span("Hello", 1.0)]).token_ids
    assert ids[0] == config["bos_token_id"]
    assert ids.count(config["bos_token_id"]) == 1
    assert ids.count(config["eos_token_id"]) == 1
    assert [encoders[family].encode([Span("Hello", 1.0)]).weights[0] for family in FAMILIES] == [0.0] * 3
    assert encoders["llama"].encode([Span("Hello", 1.0)]).weights[1] == 1.0


def test_an_answer_is_learnt_from_where_the_prompt_ends(
    encoder: DocumentEncoder, tokenizer: Tokenizer, folder: Path
) -> None:
    """What is not learnt is the prompt that inference sends, to the token."""
    template = CLASSES[read_json(folder / "config.json")["model_type"]].chat_template
    messages = [ChatMessage("user", "Größe?"), ChatMessage("assistant", "漢字 is it.")]
    encoded = encoder.encode(conversation(template, messages, prompt_weight=0.0))
    prompt = tokenizer.encode_prompt(template.render(messages[:1]))
    assert encoded.token_ids[: len(prompt)] == prompt
    assert set(encoded.weights[: len(prompt)]) == {0.0}
    assert set(encoded.weights[len(prompt) :]) == {1.0}


def test_a_tokenizer_file_that_cuts_and_pads_does_neither(
    checkpoints: dict[str, Path], family: str, tmp_path: Path
) -> None:
    plain = DocumentEncoder(checkpoints[family], read_json(checkpoints[family] / "config.json"))
    content = json.loads((checkpoints[family] / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    shutil.copy(checkpoints[family] / "config.json", tmp_path)
    document = [Span("What is the capital of ", 0.0), Span("France?", 1.0)]
    assert DocumentEncoder(tmp_path, read_json(tmp_path / "config.json")).encode(document) == plain.encode(document)


def test_no_end_of_document(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    config = read_json(checkpoints["persimmon"] / "config.json") | {"eos_token_id": None}
    shutil.copy(checkpoints["persimmon"] / "tokenizer.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json has no eos_token_id, with which documents end: add it"):
        DocumentEncoder(tmp_path, config)


def test_vocabulary_and_weights_must_fit(checkpoints: dict[str, Path], family: str) -> None:
    config = read_json(checkpoints[family] / "config.json")
    encoder = DocumentEncoder(checkpoints[family], config)
    encoder.require_fit(config["vocab_size"])
    with pytest.raises(CheckpointError, match=r"has ids up to \d+ but the weights only \d+ rows"):
        encoder.require_fit(config["vocab_size"] - 1)

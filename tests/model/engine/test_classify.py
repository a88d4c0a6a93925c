"""Checkpoints with a classification head on the engine, against Hugging Face's classes, in all families."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint.describe import describe
from model.checkpoint.errors import CheckpointError
from model.checkpoint.head import HeadWeights, write_head
from model.engine.engine import LocalEngine
from model.interface import ClassificationHead, EmbeddedPrompt, InvalidRequest, SamplingParams, ScoreRequest
from model.open_engine import open_engine
from model.parity.random_checkpoint import save_random_persimmon
from model.parity.random_classifier import FAMILIES, save_random_classifier

TOLERANCE = 1e-4
PAD = 7
SMALL = {"device": "cpu", "block_size": 4, "max_num_requests": 4, "max_num_batched_tokens": 16, "kv_cache_tokens": 96}

Write = Callable[..., tuple[Path, Any]]
Open = Callable[..., LocalEngine]


@pytest.fixture
def write(tmp_path: Path, sentencepiece_model: bytes) -> Write:
    """Writes a random classifier with a tokenizer; gives its folder and Hugging Face's model."""

    def made(family: str, **options: Any) -> tuple[Path, Any]:
        folder = tmp_path / "classifier"
        size = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model).get_piece_size()
        model = save_random_classifier(folder, family, vocab_size=size, **options)
        (folder / "tokenizer.model").write_bytes(sentencepiece_model)
        return folder, model

    return made


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens checkpoints, in blocks and batches so small that their borders are everywhere."""
    engines: list[LocalEngine] = []

    def make(folder: Path, **options: Any) -> LocalEngine:
        engines.append(open_engine(str(folder), **(SMALL | options)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def prompts_of(lengths: tuple[int, ...], *, last: int | None = None) -> list[list[int]]:
    """Random ids of these lengths, without PAD, each followed by `last` if there is one."""
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randint(PAD + 1, 200, (length,), generator=generator).tolist() for length in lengths]
    return [[*ids, last] if last is not None else ids for ids in drawn]


@torch.inference_mode()
def reference(model: Any, rows: list[list[int]], side: str | None) -> np.ndarray[Any, Any]:
    """Hugging Face's logits: each row alone, or all in a batch padded at a side."""
    if side is None:
        return np.concatenate([model(torch.tensor([row])).logits.numpy() for row in rows])
    longest = max(map(len, rows))
    padding = [[PAD] * (longest - len(row)) for row in rows]
    ids = [row + pad if side == "right" else pad + row for row, pad in zip(rows, padding, strict=True)]
    mask = [
        [1] * len(row) + [0] * len(pad) if side == "right" else [0] * len(pad) + [1] * len(row)
        for row, pad in zip(rows, padding, strict=True)
    ]
    logits: np.ndarray[Any, Any] = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    return logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", [None, "right", "left"])
def test_logits_equal_hugging_faces(family: str, side: str | None, write: Write, opened: Open) -> None:
    folder, model = write(family, num_labels=5, pad_token_id=None if side is None else PAD)
    rows = prompts_of((1, 2, 4, 7, 17, 33, 40))
    expected = reference(model, rows, side)
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    engine = opened(folder)
    for _ in range(2):  # the second time from the cache
        logits = np.stack(engine.classify(rows))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=TOLERANCE)
    np.testing.assert_allclose(np.stack([engine.classify([row])[0] for row in rows]), expected, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_at_the_end_of_a_prompt_does_not_count(family: str, write: Write, opened: Open) -> None:
    folder, model = write(family, pad_token_id=PAD)
    engine = opened(folder)
    rows = [*prompts_of((9, 20), last=PAD), [3, PAD, 4, PAD, PAD], [PAD], [PAD, PAD, PAD]]
    np.testing.assert_allclose(np.stack(engine.classify(rows)), reference(model, rows, None), atol=TOLERANCE)
    unpadded = [rows[0][:-1], rows[1][:-1], [3, PAD, 4], [PAD], [PAD]]
    np.testing.assert_allclose(np.stack(engine.classify(rows)), np.stack(engine.classify(unpadded)), atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_padding_token_the_last_one_counts(family: str, write: Write, opened: Open) -> None:
    folder, model = write(family)
    rows = prompts_of((9, 20), last=PAD)
    np.testing.assert_allclose(np.stack(opened(folder).classify(rows)), reference(model, rows, None), atol=TOLERANCE)


def test_vectors_in_a_prompt(write: Write, opened: Open) -> None:
    """Hugging Face cannot see padding among embeddings, so the last place counts whatever its token is."""
    folder, model = write("persimmon", pad_token_id=PAD)
    (ids,) = prompts_of((12,), last=PAD)
    vectors = np.random.default_rng(0).normal(size=(2, 48)).astype(np.float32)
    with torch.inference_mode():
        embedded = model.get_input_embeddings()(torch.tensor([ids]))
        embedded[0, [3, 4]] = torch.from_numpy(vectors)
        expected = model(inputs_embeds=embedded).logits[0].numpy()
    prompt = EmbeddedPrompt(token_ids=tuple(ids), positions=(3, 4), vectors=vectors)
    np.testing.assert_allclose(opened(folder).classify([prompt])[0], expected, atol=TOLERANCE)


def test_text_and_the_async_twin(write: Write, opened: Open) -> None:
    folder, _ = write("llama")
    engine = opened(folder)
    texts = ["human: What is it?", "Paris"]
    ids = [engine.tokenizer.encode_prompt(text) for text in texts]
    first = np.stack(engine.classify(texts))
    np.testing.assert_allclose(first, np.stack(engine.classify(ids)), atol=TOLERANCE)
    twin = asyncio.run(engine.aclassify(texts, priority="interactive"))
    np.testing.assert_allclose(first, np.stack(twin), atol=TOLERANCE)
    assert engine.classify([]) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_beside_generation_and_attached_to_it(family: str, write: Write, opened: Open, tmp_path: Path) -> None:
    """A head on the base it was trained on equals the whole classifier, while answers are written beside it."""
    folder, model = write(family, num_labels=2, pad_token_id=PAD)
    base = tmp_path / "base"
    FAMILIES[family](base, vocab_size=model.config.vocab_size, pad_token_id=PAD)
    (base / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    engine = opened(base)
    assert engine.info.has_lm_head
    with pytest.raises(
        InvalidRequest, match=r"^base has no classification head: attach one, or open a checkpoint that"
    ):
        engine.classify([[3]])
    weights = HeadWeights.of(
        model.score.weight.detach().numpy(), name="mood", labels=["bad", "good"], problem_type="single_label", source=""
    )
    write_head(tmp_path / "mood", weights, base_name="base", base_sha256=engine.info.weights_sha256)
    attached = engine.attach_head(tmp_path / "mood")
    assert engine.heads == {"mood": attached}
    assert attached == ClassificationHead(
        name="mood",
        labels=("bad", "good"),
        problem_type="single_label",
        source=str(tmp_path / "mood"),
        weight_sha256=weights.info.weight_sha256,
    )
    rows = prompts_of((3, 8, 30))
    params = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
    (alone,) = engine.generate([[5, 6, 9]], params)
    with engine.stream([5, 6, 9], params) as stream:
        logits = np.stack(engine.classify(rows))
        texts = "".join(chunk.text for chunk in stream)
    assert texts == alone.text
    np.testing.assert_allclose(logits, reference(model, rows, None), atol=TOLERANCE)
    np.testing.assert_allclose(logits, np.stack(opened(folder).classify(rows)), atol=TOLERANCE)


def test_a_classifier_only_classifies(write: Write, opened: Open) -> None:
    folder, _ = write("mpt", num_labels=1)
    engine = opened(folder)
    assert not engine.info.has_lm_head
    assert list(engine.heads) == ["classifier"]
    assert engine.heads["classifier"].problem_type == "regression"
    sentence = "^classifier has a classification head in place of a language model's: it can only classify$"
    for ask in (
        lambda: engine.generate([[3]], SamplingParams()),
        lambda: engine.stream([3], SamplingParams()),
        lambda: engine.score([ScoreRequest(context_token_ids=(3,), continuation_token_ids=(4,))]),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            ask()
    stored = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    description = describe(str(folder))
    assert engine.info.num_parameters == stored == description.num_parameters
    assert description.labels == ("LABEL_0",)


def test_which_head_is_asked(write: Write, opened: Open, tmp_path: Path) -> None:
    folder, _ = write("persimmon", num_labels=2)
    engine = opened(folder)

    def attach(name: str, value: float) -> None:
        weight = np.full((2, 48), value, dtype=np.float32)
        head = HeadWeights.of(weight, name=name, labels=["a", "b"], problem_type="multi_label", source="")
        write_head(tmp_path / name, head, base_name="x", base_sha256=engine.info.weights_sha256)
        engine.attach_head(tmp_path / name)

    (own,) = engine.classify([[3, 4]])
    attach("zeros", 0.0)
    np.testing.assert_array_equal(engine.classify([[3, 4]])[0], own)
    np.testing.assert_array_equal(engine.classify([[3, 4]], head="zeros")[0], [0, 0])
    attach("zeros", 1.0)  # trained again
    assert engine.classify([[3, 4]], head="zeros")[0].any()
    assert list(engine.heads) == ["classifier", "zeros"]
    with pytest.raises(InvalidRequest, match=r"^head='nought' is not there: use one of classifier, zeros$"):
        engine.classify([[3]], head="nought")
    with pytest.raises(InvalidRequest, match=r"^head name 'classifier' is the checkpoint's own head's: train it under"):
        attach("classifier", 0.0)
    with pytest.raises(InvalidRequest, match="prompts is one string"):
        engine.classify("text")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            {"base": {"name": "other", "weights_sha256": "ab" * 32}},
            r"was trained on other with weights abababababab, not",
        ),
        ({"base": None}, r"does not name the base it was trained on: train the head again$"),
        ({"labels": []}, r"has no name, labels and problem_type that can be used: train the head again$"),
        ({"labels": ["a"]}, r"must hold finite numbers of shape \[1, 48\] and has shape \[2, 48\]: train the head ag"),
        ({"problem_type": "other"}, r"has no name, labels and problem_type that can be used"),
    ],
)
def test_heads_that_are_refused(
    damage: dict[str, Any], sentence: str, random_checkpoint: Path, engine: LocalEngine, tmp_path: Path
) -> None:
    head = HeadWeights.of(
        np.ones((2, 48), np.float32), name="h", labels=["a", "b"], problem_type="single_label", source=""
    )
    write_head(tmp_path / "h", head, base_name="random", base_sha256=engine.info.weights_sha256)
    path = tmp_path / "h" / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(CheckpointError, match=sentence):
        engine.attach_head(tmp_path / "h")
    assert not engine.heads


def test_folders_that_hold_no_head(random_checkpoint: Path, engine: LocalEngine, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"head\.json is missing: give a folder that `python -m model.finetune cl"
    ):
        engine.attach_head(tmp_path)
    with pytest.raises(CheckpointError, match=r"is a whole checkpoint: open it as a model instead of attaching it$"):
        engine.attach_head(random_checkpoint)


def test_heads_in_a_checkpoints_folder_are_attached(
    tmp_path: Path, opened: Open, sentencepiece_model: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "base"
    size = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model).get_piece_size()
    save_random_persimmon(folder, vocab_size=size)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model)
    sha256 = opened(folder).info.weights_sha256
    for name, base in (("fits", sha256), ("stale", "0" * 64)):
        head = HeadWeights.of(
            np.ones((2, 48), np.float32), name=name, labels=["a", "b"], problem_type="single_label", source=""
        )
        write_head(folder / "heads" / name, head, base_name="base", base_sha256=base)
    engine = opened(folder)
    assert engine.info.weights_sha256 == sha256
    assert list(engine.heads) == ["fits"]
    assert "stale was trained on base with weights 000000000000, not on this base" in caplog.text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id2label": {"0": "a", "1": "b"}}, r"id2label=.* score\.weight has 3 rows, numbered from 0$"),
        ({"problem_type": "guess"}, r"problem_type='guess': use one of single_label_classification, multi_label"),
        ({"pad_token_id": "x"}, r"pad_token_id='x': it must be a whole number or null$"),
        ({"architectures": ["PersimmonForCausalLM"]}, r"lacks the tensor lm_head\.weight"),
    ],
)
def test_configs_that_do_not_fit(changes: dict[str, Any], sentence: str, write: Write, opened: Open) -> None:
    folder, _ = write("persimmon")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=sentence):
        opened(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda score: None, r"lacks the tensor score\.weight: fetch the checkpoint again$"),
        (lambda score: score[:, :-1].contiguous(), r"shape \[3, 47\] where config\.json asks for \[labels, 48\]"),
        (lambda score: score.fill_(float("nan")), r"holds score\.weight with numbers that are not finite"),
    ],
)
def test_scores_that_do_not_fit(change: Callable[..., Any], sentence: str, write: Write, opened: Open) -> None:
    folder, _ = write("persimmon")
    tensors = load_file(folder / "model.safetensors")
    changed = change(tensors.pop("score.weight"))
    save_file(tensors if changed is None else tensors | {"score.weight": changed}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=sentence):
        opened(folder)

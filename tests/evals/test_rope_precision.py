"""`python -m evals rope-precision`: likelihoods against Hugging Face's, positions, intervals, and what is refused."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import PersimmonForCausalLM

from evals import rope_precision
from evals.rope_precision import Scores, cut, position_ranges, summarise
from evals.texts import Texts
from model.open_engine import open_engine
from model.parity.random_checkpoint import save_random_mpt, save_random_persimmon

CONTEXT = 512


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, sentencepiece_model: bytes) -> Path:
    folder = tmp_path_factory.mktemp("rope")
    size = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model).get_piece_size()
    save_random_persimmon(folder, vocab_size=size, max_position_embeddings=CONTEXT, num_hidden_layers=1)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model)
    return folder


@pytest.fixture
def texts() -> Texts:
    words = ["The", "capital", "of", "France", "is", "Paris", "fox", "dog", "0123", "añ"]
    random = np.random.default_rng(0)
    return Texts("words", "words.jsonl", tuple(" ".join(random.choice(words, 400)) for _ in range(3)))


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    rope_precision.add_arguments(parser)
    return parser.parse_args(["--device", "cpu", *arguments])


def opener(checkpoint: Path) -> Callable[[str], object]:
    return lambda dtype: open_engine(str(checkpoint), device="cpu", rope_position_dtype=dtype, kv_cache_tokens=2048)


def test_likelihoods_are_hugging_faces_at_every_position(checkpoint: Path, texts: Texts) -> None:
    record = rope_precision.compare(opener(checkpoint), texts)  # type: ignore[arg-type]
    reference = PersimmonForCausalLM.from_pretrained(checkpoint, attn_implementation="eager").eval()
    encode = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model")).encode
    nll: list[tuple[int, float]] = []  # position of the token read last, and how unlikely the next one was
    for text in texts.texts:
        ids = encode(text)
        for start in range(0, len(ids), CONTEXT):
            part = [1, *ids[start : start + CONTEXT]]  # 1: the config's BOS
            with torch.inference_mode():
                logprobs = reference(torch.tensor([part[:-1]])).logits[0].log_softmax(dim=-1)
            nll += [(i, -float(logprobs[i, part[i + 1]])) for i in range(len(part) - 1)]
    assert record.num_tokens == len(nll) > 1500
    assert [(each.first, each.last) for each in record.ranges] == [(0, 255), (256, 511)]
    for each in (*record.ranges, record.whole):
        inside = [value for position, value in nll if each.first <= position <= each.last]
        assert each.num_tokens == len(inside)
        assert each.num_texts == 3
        assert each.nll["float32"] == pytest.approx(np.mean(inside), abs=1e-4)
        assert each.perplexity["float32"] == pytest.approx(np.exp(np.mean(inside)), rel=1e-3)
        assert each.difference == pytest.approx(each.nll["bfloat16"] - each.nll["float32"])  # type: ignore[operator]
        assert each.low < each.difference < each.high  # type: ignore[operator]


def test_the_two_part_beyond_256(checkpoint: Path, texts: Texts) -> None:
    record = rope_precision.compare(opener(checkpoint), texts)  # type: ignore[arg-type]
    near, far = record.ranges
    assert near.top_changes < far.top_changes / 2  # type: ignore[operator]
    fine, coarse = (scored(checkpoint, texts, dtype) for dtype in rope_precision.SETTINGS)
    apart = np.abs(fine - coarse)
    assert 0 < apart[:256].mean() < apart[256:].mean() / 3


def scored(checkpoint: Path, texts: Texts, dtype: str) -> np.ndarray:
    """Negative log-likelihoods of one whole context of the first text."""
    engine = opener(checkpoint)(dtype)
    (part, *_) = cut(texts, engine.tokenizer.encode, length=CONTEXT, limit=None)  # type: ignore[attr-defined]
    assert len(part.token_ids) == CONTEXT
    found = rope_precision.score(engine, [part], first_token=1).nll  # type: ignore[arg-type]
    engine.close()  # type: ignore[attr-defined]
    return found


def test_record_page_and_limit(
    checkpoint: Path, texts: Texts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "words.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts.texts), encoding="utf-8")
    arguments = ["--checkpoint", str(checkpoint), "--text", str(file), "--output", str(tmp_path / "results")]
    assert rope_precision.run(options(*arguments, "--limit-tokens", "40", "--context-length", "300")) == 0
    printed = capsys.readouterr().out
    (path,) = (tmp_path / "results" / "rope_precision").iterdir()
    assert path.name == f"{checkpoint.name}--words.json"
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    (record,) = rope_precision.read_records(tmp_path / "results")
    assert rope_precision.render([record]) in printed
    assert (record.num_tokens, record.limit_tokens, record.context_length, record.first_token) == (40, 40, 300, 1)
    near, far = record.ranges
    assert (near.num_tokens, near.num_texts) == (40, 1)
    assert near.difference is not None
    assert near.low is near.high is None, "one text has no interval"
    assert (far.first, far.last, far.num_tokens, far.num_texts) == (256, 299, 0, 0)
    assert far.nll == {"float32": None, "bfloat16": None}
    assert far.difference is far.top_changes is None
    assert re.search(r"\| 256 to 299 +\| 0 +\| 0 +\| – ", printed)


def test_mpt_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_random_mpt(tmp_path / "tiny-mpt")
    capsys.readouterr()
    assert rope_precision.run(options("--checkpoint", str(tmp_path / "tiny-mpt"))) == 1
    assert capsys.readouterr().err == (
        "evals: tiny-mpt is an MPT, whose ALiBi has no rotary positions: give a Persimmon or a Llama\n"
    )


def test_ranges_double_up_to_the_context() -> None:
    assert list(position_ranges(200)) == [(0, 199)]
    assert list(position_ranges(256)) == [(0, 255)]
    assert list(position_ranges(1100)) == [(0, 255), (256, 511), (512, 1023), (1024, 1099)]
    assert [last for _, last in position_ranges(16384)] == [255, 511, 1023, 2047, 4095, 8191, 16383]


def test_parts_of_texts() -> None:
    def parts(words: tuple[str, ...], *, bundled: bool = False, limit: int | None = None) -> list[tuple[int, int]]:
        texts = Texts("x", "x", words, bundled=bundled)
        return [
            (part.text, len(part.token_ids)) for part in cut(texts, lambda t: [*t.encode()], length=10, limit=limit)
        ]

    assert parts(("a" * 25, "b" * 4)) == [(0, 10), (0, 10), (0, 5), (1, 4)]
    assert parts(("a" * 25, "b" * 4), limit=12) == [(0, 10), (0, 2)]
    assert parts(("a" * 10, "b" * 4), limit=10) == [(0, 10)]
    assert parts(("a" * 9, "b" * 9, "c" * 9), bundled=True) == [(0, 10), (1, 10), (2, 10)]  # 31 with the blank lines
    assert parts(("a", "b"), bundled=True) == [(0, 4)]


def test_top_changes_and_pairs() -> None:
    fine = Scores(nll=np.array([1.0, 2.0, 3.0, 4.0]), top=np.array([1, 2, 3, 4]))
    coarse = Scores(nll=np.array([1.5, 2.5, 5.0, 4.0]), top=np.array([1, 2, 9, 4]))
    scores, texts = {"float32": fine, "bfloat16": coarse}, np.array([0, 0, 1, 1])
    every = summarise(scores, texts, inside=np.ones(4, dtype=bool), first=0, last=255)
    assert (every.difference, every.top_changes, every.num_texts) == (0.75, 0.25, 2)
    assert every.low == pytest.approx(0.75 - 12.706205 * 0.25)
    first = summarise(scores, texts, inside=np.array([True, False, True, False]), first=0, last=0)
    assert (first.num_tokens, first.difference, first.top_changes) == (2, 1.25, 0.5)

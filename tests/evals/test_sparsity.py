"""`python -m evals sparsity`: the record, the page's section, and what is refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import PersimmonForCausalLM

from evals import sparsity
from evals.errors import EvaluationError
from evals.measurement import read

TEXTS = ["The capital of France is Paris.", "def add(a, b):  return a + b", "The quick brown fox. " * 60]


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    sparsity.add_arguments(parser)
    return parser.parse_args(["--device", "cpu", *arguments])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "some text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


@pytest.fixture
def arguments(random_checkpoint: Path, text: Path, tmp_path: Path) -> list[str]:
    return ["--checkpoint", str(random_checkpoint), "--text", str(text), "--output", str(tmp_path / "results")]


def test_record_and_page(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sparsity.run(options(*arguments)) == 0
    printed = capsys.readouterr().out
    (path,) = (tmp_path / "results" / "sparsity").iterdir()
    assert path.name.startswith("random-persimmon")
    assert path.name.endswith("--some-text.json")
    assert str(path) in printed
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    (record,) = sparsity.read_records(tmp_path / "results")
    assert sparsity.render([record]) in printed
    assert "On random\nweights this is 50 %" in printed
    assert record.text["num_texts"] == 3
    assert (record.model["family"], record.dtype, record.device) == ("persimmon", "float32", "cpu")
    assert len(record.model["weights_sha256"]) == len(record.text["sha256"]) == 64
    assert [layer.layer for layer in record.layers] == [0, 1, 2]
    assert record.mean.zero_share == pytest.approx(np.mean([layer.zero_share for layer in record.layers]))
    assert record.mean.zero_share == pytest.approx(0.5, abs=0.1)
    for layer in record.layers:
        low, middle, high = (layer.token_quantiles[name] for name in ("5", "50", "95"))
        assert 0 < low < middle < high < 1  # type: ignore[operator]
        assert layer.live_share_of_groups["consecutive"]["1"] == pytest.approx(1 - layer.zero_share)  # type: ignore[operator]


def test_shares_and_traffic_are_hugging_faces(arguments: list[str], random_checkpoint: Path, tmp_path: Path) -> None:
    """The whole way again with transformers' activations and parameters."""
    assert sparsity.run(options(*arguments, "--limit-tokens", "60")) == 0
    (record,) = sparsity.read_records(tmp_path / "results")
    reference = PersimmonForCausalLM.from_pretrained(random_checkpoint).eval()
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(random_checkpoint / "tokenizer.model"))
    seen: dict[int, list[torch.Tensor]] = {}
    for index, layer in enumerate(reference.model.layers):
        layer.mlp.act.register_forward_hook(
            lambda module, inputs, output, index=index: seen.setdefault(index, []).append(output[0] == 0)
        )
    left = 60
    with torch.inference_mode():
        for text in TEXTS:
            ids = tokenizer.encode(text)[:left]
            left -= len(ids)
            if ids:
                reference(torch.tensor([ids]))
    assert record.num_tokens == 60
    shares = [float(torch.cat(seen[index]).float().mean()) for index in range(3)]
    assert [layer.zero_share for layer in record.layers] == pytest.approx(shares, abs=1e-3)
    sizes = {name: parameter.numel() for name, parameter in reference.named_parameters()}
    streamed = sum(sizes.values()) - sizes["model.embed_tokens.weight"]
    second = [sizes[f"model.layers.{index}.mlp.dense_4h_to_h.weight"] for index in range(3)]
    assert (record.num_streamed, record.num_second_matrices) == (streamed, sum(second))
    read_less = streamed - sum(size * share for size, share in zip(second, shares, strict=True))
    assert record.traffic_ratio["consecutive"]["1"] == pytest.approx(streamed / read_less, rel=1e-3)


def test_what_is_not_there_is_not_zero(arguments: list[str], tmp_path: Path) -> None:
    assert sparsity.run(options(*arguments, "--limit-tokens", "3")) == 0
    (record,) = sparsity.read_records(tmp_path / "results")
    assert record.mean.live_share_of_groups["consecutive"]["2"] is not None
    assert record.mean.live_share_of_groups["consecutive"]["8"] is None
    assert record.traffic_ratio["apart"]["2"] is None
    assert "| –" in sparsity.render([record])


def test_a_page_without_records(tmp_path: Path) -> None:
    assert sparsity.read_records(tmp_path) == []
    assert "No measurement is recorded." in sparsity.render([])


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--text", "missing.txt"], "missing.txt cannot be read"),
        (["--checkpoint", "no such place"], "neither a folder here nor a Hub id"),
        (["--context-length", "100000"], "context_length=100000 is not allowed: this model takes 2 to 128"),
        (["--dtype", "int4"], "dtype='int4' is not allowed"),
    ],
)
def test_refusals(arguments: list[str], extra: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sparsity.run(options(*arguments, *extra)) == 1
    found = capsys.readouterr().err
    assert sentence in found
    assert found.startswith("evals: ")
    assert found.count("\n") == 1


def test_a_file_that_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "sparsity" / "x.json"
    path.parent.mkdir()
    for content, sentence in (
        ("{", "cannot be read"),
        ('{"schema": 0}', "no record of schema 1"),
        ('{"schema": 1}', "lacks or adds a key"),
    ):
        path.write_text(content)
        with pytest.raises(EvaluationError, match=sentence):
            read(sparsity.SparsityRecord, path)

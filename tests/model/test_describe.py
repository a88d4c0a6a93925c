"""The description of a checkpoint against what loading it shows, and against the published model's figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.checkpoint.describe import Description, describe, lines, main
from model.checkpoint.fingerprint import weights_sha256
from model.checkpoint.load import load_model
from model.open_engine import DEMO_CHECKPOINT


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_numbers_are_those_of_the_loaded_model(random_checkpoint: Path, dtype: str) -> None:
    found = describe(str(random_checkpoint), dtype=dtype)
    model = load_model(random_checkpoint, device=torch.device("cpu"), dtype=getattr(torch, dtype))
    assert found.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.weight_bytes == sum(parameter.nbytes for parameter in model.parameters())
    cache = model.config.kv_cache_shape.allocate(
        num_blocks=5, block_size=4, dtype=getattr(torch, dtype), device=torch.device("cpu")
    )
    assert found.kv_bytes_per_token * 20 == sum(layer.key.nbytes + layer.value.nbytes for layer in cache)
    assert found.weights_sha256 == weights_sha256(random_checkpoint)
    assert found.stored == {"F32": sum(1 for _ in model.parameters())}


def published(**changes: object) -> Description:
    """Persimmon-8B, FACTS section 1."""
    values = {
        "name": "adept/persimmon-8b-base",
        "revision": None,
        "family": "persimmon",
        "num_parameters": 9_397_175_296,
        "vocab_size": 262_144,
        "context_length": 16_384,
        "stored": {"BF16": 510},
        "stored_bytes": 18_794_400_000,
        "num_files": 4,
        "weights_sha256": "0" * 64,
        "tokenizer": "tokenizer.json",
        "tokenizer_sha256": "1" * 64,
        "licence": "apache-2.0",
        "notice": None,
        "prompts_begin_with_bos": False,
        "dtype": "bfloat16",
        "weight_bytes": 2 * 9_397_175_296,
        "kv_bytes_per_token": 589_824,
    }
    return Description(**(values | changes))  # type: ignore[arg-type]


def test_memory_of_the_published_model() -> None:
    text = "\n".join(lines(published(), context_length=16_384, batch=1, gpu_gb=24))
    assert "memory        28.46 GB in bfloat16: weights 18.79 GB, KV cache 9.66 GB for 1 x 16,384 tokens" in text
    assert "on 24 GB      does not fit; beside the weights there is room for 8,825 tokens of KV cache" in text
    assert "fits; beside" in "\n".join(lines(published(), context_length=16_384, batch=1, gpu_gb=80))
    assert "the weights alone are 18.79 GB" in "\n".join(lines(published(), context_length=1, batch=1, gpu_gb=16))


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DEMO_CHECKPOINT), "--context-length", "512", "--batch", "4", "--gpu-gb", "8"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "model/demo/persimmon-demo\nfamily        persimmon, 3,206,784 parameters, 1,397 tokens known"
    )
    assert "for 4 x 512 tokens" in text
    assert "on 8 GB" in text


@pytest.mark.slow
def test_errors_are_one_sentence_and_status_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "model.checkpoint.describe", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1

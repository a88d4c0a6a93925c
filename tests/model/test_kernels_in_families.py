"""The three families with every kernel in Triton's interpreter, against the same models without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: it comes with requirements-dev.txt on Linux")

import triton
from kernel_tables import compare

from kernels.gpu import sparse_down, token_logprobs
from model.checkpoint.load import load_model
from model.engine.engine import LocalEngine
from model.interface import SamplingParams
from model.layers.attention_backends import AttentionBackend
from model.layers.ops import REFERENCE
from model.layers.triton_ops import TRITON
from model.open_engine import DEMO_CHECKPOINTS, open_engine
from model.parity.our_forward import our_logits
from model.parity.random_checkpoint import random_prompt, save_random_persimmon

pytestmark = pytest.mark.skipif(
    not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is set to something other than 1"
)
CPU = torch.device("cpu")
TRITON_ATTENTION = AttentionBackend(prompt="triton", continued="triton", decode="triton", not_used={})
PARAMS = SamplingParams(max_tokens=3, temperature=0.0)


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes milliseconds here."""
    monkeypatch.setattr(sparse_down, "MOST_SPLITS", 2)
    monkeypatch.setattr(sparse_down, "BLOCK_H", 128)
    monkeypatch.setattr(token_logprobs, "VOCAB_TILE", 2048)


def with_kernels(folder: Path, **options: str) -> LocalEngine:
    engine = open_engine(str(folder), device="cpu", kernels="triton", max_num_requests=4, **options)  # type: ignore[arg-type]
    engine._core.runner.attention = TRITON_ATTENTION
    return engine


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", DEMO_CHECKPOINTS, ids=lambda path: path.name)
def test_answers_and_scores_are_the_references(checkpoint: Path) -> None:
    plain = open_engine(str(checkpoint), device="cpu", kernels="reference", max_num_requests=4)
    kernels = with_kernels(checkpoint)
    assert (kernels.info.kernels, kernels.info.kernels_note) == ("Triton kernels", None)
    compare(plain, kernels, PARAMS)


def test_a_persimmon_keeps_its_second_matrix_by_columns(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path)
    plain, kernels = (load_model(tmp_path, device=CPU, dtype=torch.float32, ops=ops) for ops in (REFERENCE, TRITON))
    for (name, weight), other in zip(kernels.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(weight, other)
        if weight.dim() == 2:
            assert weight.T.is_contiguous() == name.endswith("dense_4h_to_h.weight")


@pytest.mark.slow
@pytest.mark.parametrize("num_tokens", [5, 12])
def test_hot_activations_in_float16(tmp_path: Path, num_tokens: int) -> None:
    """Activations beyond 256, skipped and dense: no worse than the reference."""
    save_random_persimmon(tmp_path, hot=True)
    ids = random_prompt()[:num_tokens]
    exact = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    plain = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float16), ids)
    half = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float16, ops=TRITON), ids)
    assert half.isfinite().all()
    assert (half - exact).abs().mean() <= 1.5 * (plain - exact).abs().mean()

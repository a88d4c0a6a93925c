"""Tiled log-probabilities against torch's log_softmax of the whole vocabulary."""

from __future__ import annotations

import pytest
import torch

from kernels import token_logprobs
from kernels.token_logprobs import token_logprobs_reference


@pytest.mark.parametrize(("vocab_size", "tiles"), [(10, (3, 4)), (4096, (1024, 4096)), (4097, (1, 4096)), (1, (2, 2))])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_equals_log_softmax(
    vocab_size: int, tiles: tuple[int, int], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_logprobs, "ROW_TILE", tiles[0])
    monkeypatch.setattr(token_logprobs, "VOCAB_TILE", tiles[1])
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 16, generator=generator)
    weight = torch.randn(vocab_size, 16, generator=generator) * scale
    targets = torch.randint(0, vocab_size, (7,), generator=generator)
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)
    logprobs, is_argmax = token_logprobs_reference(hidden, weight, targets)
    torch.testing.assert_close(logprobs.double(), exact.gather(-1, targets[:, None])[:, 0], atol=1e-4, rtol=1e-5)
    assert is_argmax.tolist() == (exact.argmax(-1) == targets).tolist()
    _, greedy = token_logprobs_reference(hidden, weight, exact.argmax(-1))
    assert greedy.all()


def test_on_equal_logits_the_lower_id_is_the_argmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_logprobs, "VOCAB_TILE", 4)
    weight = torch.ones(10, 2)
    _, is_argmax = token_logprobs_reference(torch.ones(3, 2), weight, torch.tensor([0, 5, 9]))
    assert is_argmax.tolist() == [True, False, False]


def test_no_rows() -> None:
    logprobs, is_argmax = token_logprobs_reference(
        torch.empty(0, 4), torch.ones(5, 4), torch.empty(0, dtype=torch.int64)
    )
    assert logprobs.shape == is_argmax.shape == (0,)

"""The fused kernel against the torch definition, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from interpreter_products import add_in_a_fixed_order

from kernels.gpu import token_logprobs as gpu
from kernels.token_logprobs import token_logprobs_reference


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "VOCAB_TILE", 16)
    monkeypatch.setattr(gpu, "MAX_GROUPS", 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("num_rows", "vocab_size", "hidden_size"), [(1, 1, 16), (5, 100, 40), (19, 113, 70), (16, 96, 64)]
)
def test_equals_the_reference(num_rows: int, vocab_size: int, hidden_size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    # Rows of wider tensors, as a slice of the fused states is; what lies between them must not be read.
    hidden = torch.full((num_rows, hidden_size + 3), torch.nan, dtype=dtype)[:, :hidden_size]
    weight = torch.full((vocab_size, hidden_size + 5), torch.nan, dtype=dtype)[:, :hidden_size]
    hidden.copy_(torch.randn(num_rows, hidden_size, generator=generator))
    weight.copy_(torch.randn(vocab_size, hidden_size, generator=generator) * hidden_size**-0.5)
    num_targets = 2 * num_rows + 1  # some rows have several, some none
    targets = torch.randint(0, vocab_size, (num_targets,), generator=generator)
    rows = torch.randint(0, num_rows, (num_targets,), generator=generator)
    expected = token_logprobs_reference(hidden, weight, targets, rows=rows, scale=0.7)
    got = gpu.token_logprobs(hidden, weight, targets, rows=rows, scale=0.7)
    tolerance = 1e-5 if dtype == torch.float32 else 4e-3  # a logit's last bit in float16
    torch.testing.assert_close(got.logprobs, expected.logprobs, atol=tolerance, rtol=1e-5)
    assert got.is_argmax.tolist() == expected.is_argmax.tolist()
    best = (hidden.float() @ weight.float().T).argmax(-1)
    if dtype == torch.float32:
        assert gpu.token_logprobs(hidden, weight, best).is_argmax.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_logits_in_other_tiles_and_groups(dtype: torch.dtype) -> None:
    """Small whole numbers: exact in either dtype, and many are equal."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-2, 3, (7, 16), generator=generator).to(dtype)
    weight = torch.randint(-2, 3, (90, 16), generator=generator).to(dtype)
    weight[60:] = weight[:30]
    best = (hidden.float() @ weight.float().T).argmax(-1)
    assert gpu.token_logprobs(hidden, weight, best).is_argmax.all()
    again = torch.where(best < 30, best + 60, best)
    assert gpu.token_logprobs(hidden, weight, again).is_argmax.tolist() == (best >= 30).tolist()


def test_a_row_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    add_in_a_fixed_order(monkeypatch)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(9, 32, generator=generator), torch.randn(70, 32, generator=generator)
    targets = torch.randint(0, 70, (9,), generator=generator)
    together = gpu.token_logprobs(hidden, weight, targets).logprobs
    alone = [gpu.token_logprobs(hidden[i : i + 1], weight, targets[i : i + 1]).logprobs.item() for i in range(9)]
    assert together.tolist() == alone


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_minus_infinity_and_nan() -> None:
    logits = torch.tensor([-torch.inf] * 40 + [1.0, 2.0] + [-torch.inf] * 10)
    expected = logits.log_softmax(-1)
    ids = torch.arange(52)
    rows = torch.zeros(52, dtype=torch.int64)
    # One column, so that the product is the logits; more would be 0 * inf.
    got = gpu.token_logprobs(torch.ones(1, 1), logits[:, None].clone(), ids, rows=rows)
    torch.testing.assert_close(got.logprobs, expected)
    assert got.is_argmax.nonzero()[:, 0].tolist() == [41]
    logits[3] = torch.nan
    assert gpu.token_logprobs(torch.ones(1, 1), logits[:, None], ids, rows=rows).logprobs[40:42].isnan().all()


def test_top_k_and_no_rows() -> None:
    hidden, weight = torch.eye(4, 8), torch.eye(8)
    got = gpu.token_logprobs(hidden, weight, torch.arange(4), top_k=2)
    assert got.top_ids[:, 0].tolist() == [0, 1, 2, 3]
    empty = gpu.token_logprobs(hidden[:0], weight, torch.arange(0))
    assert empty.logprobs.shape == (0,)
    assert empty.top_ids.shape == (0, 0)


def test_what_it_refuses() -> None:
    ones = torch.ones(2, 4)
    with pytest.raises(ValueError, match="3 targets for 2 rows"):
        gpu.token_logprobs(ones, ones, torch.arange(3))
    with pytest.raises(ValueError, match="must be the same"):
        gpu.token_logprobs(ones, ones.half(), torch.arange(2))
    with pytest.raises(ValueError, match="not adjacent"):
        gpu.token_logprobs(ones, torch.ones(4, 2).T, torch.arange(2))

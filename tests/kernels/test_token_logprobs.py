"""Tiled log-probabilities against torch's log_softmax and stable sort of the whole vocabulary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import token_logprobs
from kernels.token_logprobs import stable_top_k, token_logprobs_reference


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_logprobs, "CPU_TILE", (3, 4))


@pytest.mark.parametrize(("vocab_size", "tiles"), [(10, (3, 4)), (4096, (1024, 4096)), (4097, (1, 4096)), (1, (2, 2))])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_equals_log_softmax(
    vocab_size: int, tiles: tuple[int, int], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_logprobs, "CPU_TILE", tiles)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 16, generator=generator)
    weight = torch.randn(vocab_size, 16, generator=generator)
    targets = torch.randint(0, vocab_size, (7,), generator=generator)
    exact = (hidden.double() @ weight.double().T * scale).log_softmax(-1)
    scores = token_logprobs_reference(hidden, weight, targets, scale=scale, top_k=5)
    torch.testing.assert_close(scores.logprobs.double(), exact.gather(-1, targets[:, None])[:, 0], atol=1e-4, rtol=1e-5)
    assert scores.is_argmax.tolist() == (exact.argmax(-1) == targets).tolist()
    top, ids = exact.sort(dim=-1, descending=True, stable=True)
    torch.testing.assert_close(scores.top_logprobs.double(), top[:, :5], atol=1e-4, rtol=1e-5)
    assert scores.top_ids.tolist() == ids[:, :5].tolist()
    assert token_logprobs_reference(hidden, weight, exact.argmax(-1), scale=scale).is_argmax.all()


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    num_rows=st.integers(1, 9),
    vocab_size=st.integers(1, 40),
    top_k=st.integers(0, 45),
    num_targets=st.integers(0, 20),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_ties_shared_rows_and_tiles(
    seed: int, num_rows: int, vocab_size: int, top_k: int, num_targets: int, dtype: torch.dtype
) -> None:
    """Small whole numbers, so that many logits are equal and all are exact in either dtype."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randint(-2, 3, (num_rows, 3), generator=generator).to(dtype)
    weight = torch.randint(-2, 3, (vocab_size, 3), generator=generator).to(dtype)
    targets = torch.randint(0, vocab_size, (num_targets,), generator=generator)
    rows = torch.randint(0, num_rows, (num_targets,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_logprobs, "CPU_TILE", (4, 7))
        scores = token_logprobs_reference(hidden, weight, targets, rows=rows, scale=0.5, top_k=top_k)
    logits = (hidden @ weight.T).float() * 0.5
    values, ids = logits.log_softmax(-1).sort(dim=-1, descending=True, stable=True)
    torch.testing.assert_close(scores.top_logprobs, values[:, :top_k])
    assert scores.top_ids.tolist() == ids[:, :top_k].tolist()
    torch.testing.assert_close(scores.logprobs, logits.log_softmax(-1)[rows, targets])
    assert scores.is_argmax.tolist() == (ids[rows, 0] == targets).tolist()
    for row, target, logprob in zip(rows.tolist(), targets.tolist(), scores.logprobs.tolist(), strict=True):
        top = dict(zip(scores.top_ids[row].tolist(), scores.top_logprobs[row].tolist(), strict=True))
        assert top.get(target, logprob) == logprob  # the identical float


@pytest.mark.usefixtures("small_tiles")
def test_on_equal_logits_the_lower_id_is_the_argmax() -> None:
    scores = token_logprobs_reference(torch.ones(3, 2), torch.ones(10, 2), torch.tensor([0, 5, 9]), top_k=6)
    assert scores.is_argmax.tolist() == [True, False, False]
    assert scores.top_ids.tolist() == [[0, 1, 2, 3, 4, 5]] * 3


@pytest.mark.usefixtures("small_tiles")
def test_minus_infinity_and_the_largest_logits() -> None:
    largest = torch.finfo(torch.float32).max
    logits = torch.tensor(
        [
            [-torch.inf] * 5 + [1.0, 2.0, -torch.inf, 3.0],  # nothing in the first tile
            [3.0, 2.0, 1.0] + [-torch.inf] * 6,  # nothing in the last
            [largest, -largest, 0.0, 1.0, largest, -1.0, -largest, 2.0, 3.0],
            [-largest] * 9,
            [-torch.inf] * 9,
        ]
    )
    num_rows, vocab_size = logits.shape
    rows = torch.arange(num_rows).repeat_interleave(vocab_size)
    targets = torch.arange(vocab_size).repeat(num_rows)
    # a one-hot product would meet 0 * inf, so every row has its own one-column weight
    expected = logits.log_softmax(-1)
    for row in range(num_rows):
        weight, mine = logits[row][:, None], rows == row
        scores = token_logprobs_reference(torch.ones(1, 1), weight, targets[mine], rows=rows[mine] - row, top_k=9)
        torch.testing.assert_close(scores.logprobs, expected[row], equal_nan=True)
        assert scores.logprobs.isnan().any() == (row == 4)  # no finite logit: undefined
        ids = logits[row].sort(descending=True, stable=True).indices
        assert scores.top_ids[0].tolist() == ids.tolist()
        torch.testing.assert_close(scores.top_logprobs[0], expected[row][ids], equal_nan=True)


def test_no_rows() -> None:
    scores = token_logprobs_reference(torch.empty(0, 4), torch.ones(5, 4), torch.empty(0, dtype=torch.int64), top_k=3)
    assert scores.logprobs.shape == scores.is_argmax.shape == (0,)
    assert scores.top_logprobs.shape == scores.top_ids.shape == (0, 3)


def test_targets_without_rows_must_be_one_a_row() -> None:
    with pytest.raises(ValueError, match="3 targets for 2 rows"):
        token_logprobs_reference(torch.ones(2, 4), torch.ones(5, 4), torch.tensor([0, 1, 2]))


def test_stable_top_k_orders_all_floats() -> None:
    smallest = torch.finfo(torch.float32).smallest_normal
    values = torch.tensor([0.0, -0.0, 1.0, -torch.inf, smallest, -smallest, torch.inf, -1.0, 1.0, -torch.inf, -0.0])
    top, ids = stable_top_k(values[None], 11)
    assert ids[0].tolist() == values.sort(descending=True, stable=True).indices.tolist()
    assert top[0].tolist() == values[ids[0]].tolist()


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31), num_rows=st.integers(0, 4), n=st.integers(1, 700), k=st.integers(0, 20),
    levels=st.sampled_from([1, 3, 50, 10**6]), low=st.booleans(),
)  # fmt: skip
def test_stable_top_k_is_the_head_of_a_stable_sort(
    seed: int, num_rows: int, n: int, k: int, levels: int, low: bool
) -> None:
    """Rows long enough to go by groups, and not; few levels give many ties."""
    values = torch.randint(0, levels, (num_rows, n), generator=torch.Generator().manual_seed(seed)).float()
    if low:
        values[:, : n // 2] = -torch.inf
        values[::2] = -torch.inf
    top, ids = stable_top_k(values, k)
    expected = values.sort(dim=-1, descending=True, stable=True)
    assert ids.tolist() == expected.indices[:, :k].tolist()
    assert top.tolist() == expected.values[:, :k].tolist()


MEMORY = """
import sys, torch
from kernels.token_logprobs import token_logprobs_reference

def kib(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

dtype, rows, hidden_size, vocab_size = getattr(torch, sys.argv[1]), *map(int, sys.argv[2:])
hidden = torch.randn(rows, hidden_size, dtype=dtype)
weight = torch.randn(vocab_size, hidden_size, dtype=dtype)
targets = torch.randint(0, vocab_size, (rows,))
token_logprobs_reference(hidden[:2], weight[:99], targets[:2] % 99, top_k=20)  # loads the libraries it needs
before = kib("VmRSS")
token_logprobs_reference(hidden, weight, targets, top_k=20)
print((kib("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc/self/status")
@pytest.mark.parametrize(
    ("dtype", "rows", "hidden_size", "vocab_size"),
    [
        ("float32", 2048, 64, 262_144),
        ("bfloat16", 1024, 64, 131_072),
        ("float32", 512, 4096, 8192),
        ("bfloat16", 512, 4096, 8192),
    ],
)
def test_memory_stays_below_64_mb(dtype: str, rows: int, hidden_size: int, vocab_size: int) -> None:
    """The peak of the resident set over what inputs and libraries hold. (The parent's peak is not in VmHWM, which
    begins anew at exec; `ru_maxrss` does not.)"""
    out = subprocess.run(
        [sys.executable, "-c", MEMORY, dtype, str(rows), str(hidden_size), str(vocab_size)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    print(f"{dtype} {rows} x {hidden_size} x {vocab_size}: {int(out) / 1e6:.1f} MB")  # noqa: T201
    assert int(out) < 64e6

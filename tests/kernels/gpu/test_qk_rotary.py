"""Head norms, rotation and cache writing in Triton's interpreter against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.gpu.qk_rotary import qk_rotary
from kernels.qk_rotary import HeadNorms, Rotation, qk_rotary_reference

# The definition rounds between the two products of a rotation: two steps of the dtype at entries of about 4. Stores of
# bfloat16 cut off in the interpreter, which is a step more.
BOUNDS = {torch.float32: 3e-6, torch.float16: 8e-3, torch.bfloat16: 8e-2}
BLOCK_SIZE = 4


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not written is seen."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *arguments, **options: empty(*arguments, **options).fill_(torch.nan))


class Step:
    """Tokens with the heads of one matrix's rows, query, key and value of a head side by side as in Persimmon's."""

    def __init__(
        self,
        *,
        num_tokens: int = 5,
        num_heads: int = 3,
        num_kv_heads: int | None = None,
        head_dim: int = 12,
        half: int = 0,
        has_norm: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        generator = torch.Generator().manual_seed(num_tokens)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(dtype)

        num_kv_heads = num_kv_heads or num_heads
        self.query, self.key, self.value = normal(num_tokens, num_heads, 3, head_dim).unbind(dim=2)
        self.key, self.value = self.key[:, :num_kv_heads], self.value[:, :num_kv_heads]
        num_slots = BLOCK_SIZE * (num_tokens // BLOCK_SIZE + 2)
        self.slots = torch.randperm(num_slots, generator=generator)[:num_tokens]
        self.cache_shape = (num_slots // BLOCK_SIZE, BLOCK_SIZE, num_kv_heads, head_dim)
        self.dtype = dtype
        angles = torch.rand(num_tokens, half + 1, generator=generator)[:, :half] * 6  # rows of wider tensors
        self.rotation = Rotation(angles.cos().to(dtype), angles.sin().to(dtype)) if half else None
        self.norms = HeadNorms(*(normal(head_dim) for _ in range(4)), eps=1e-5) if has_norm else None

    def run(self, function: Any, **changes: Any) -> tuple[Tensor, Tensor]:
        """The queries, and both caches, NaN where nothing was written."""
        caches = torch.full((2, *self.cache_shape), torch.nan, dtype=self.dtype)
        options = {"slot_mapping": self.slots, "rotation": self.rotation, "norms": self.norms} | changes
        return function(self.query, self.key, self.value, caches[0], caches[1], **options), caches

    def check(self) -> None:
        bound = BOUNDS[self.dtype]
        for found, expected in zip(self.run(qk_rotary), self.run(qk_rotary_reference), strict=True):
            torch.testing.assert_close(found, expected, rtol=bound, atol=bound, equal_nan=True)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    "shape",
    [
        {"half": 3, "has_norm": True},  # Persimmon: half of a head, 12 entries no power of two
        {"half": 6, "has_norm": True, "num_heads": 1},
        {"half": 5, "num_heads": 4},
        {"half": 8, "head_dim": 16, "num_heads": 6, "num_kv_heads": 2},  # Llama: grouped
        {"head_dim": 20},  # MPT: nothing but the writing
    ],
    ids=str,
)
def test_equals_the_definition(shape: dict[str, Any], dtype: torch.dtype) -> None:
    Step(**shape, dtype=dtype).check()


def test_several_programs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.gpu.qk_rotary.ENTRIES", 32)
    Step(num_heads=5, num_kv_heads=3, num_tokens=2, half=4, has_norm=True).check()


def test_queries_of_a_model_without_positions_are_handed_back() -> None:
    step = Step()
    assert step.run(qk_rotary)[0] is step.query


def test_a_token_is_the_same_bits_in_any_batch() -> None:
    step = Step(num_tokens=3, half=3, has_norm=True)
    together, caches = step.run(qk_rotary)
    one = slice(1, 2)
    rotation = Rotation(*(states[one] for states in step.rotation or ()))
    step.query, step.key, step.value = step.query[one], step.key[one], step.value[one]
    alone, its_caches = step.run(qk_rotary, slot_mapping=step.slots[one], rotation=rotation)
    assert torch.equal(alone, together[one])
    slot = int(step.slots[1])
    assert torch.equal(its_caches.flatten(1, 2)[:, slot], caches.flatten(1, 2)[:, slot])


def test_padding_tokens_harm_nobody() -> None:
    """Several, all to the first slot of the null block, of numbers that are none."""
    step = Step(num_tokens=6, half=3, has_norm=True)
    step.slots = torch.tensor([9, 0, 6, 0, 7, 0])
    for states in (step.query, step.key, step.value):
        states[1::2] = torch.nan
    (found, caches), (expected, expected_caches) = step.run(qk_rotary), step.run(qk_rotary_reference)
    torch.testing.assert_close(found[::2], expected[::2], rtol=3e-6, atol=3e-6)
    torch.testing.assert_close(caches[:, 1:], expected_caches[:, 1:], rtol=3e-6, atol=3e-6, equal_nan=True)


def test_slots_beyond_two_to_the_31_entries() -> None:
    """Memory that is asked for and never touched, but for one slot of each cache, is not taken."""
    step = Step(num_tokens=1, num_heads=1, head_dim=16, half=4, dtype=torch.float16)
    num_blocks = 2**31 // (BLOCK_SIZE * 16) + 2
    caches = torch.from_numpy(np.empty((2, num_blocks, BLOCK_SIZE, 1, 16), dtype=np.float16))
    last = num_blocks * BLOCK_SIZE - 1
    qk_rotary(
        step.query,
        step.key,
        step.value,
        caches[0],
        caches[1],
        slot_mapping=torch.tensor([last]),
        rotation=step.rotation,
    )
    expected = step.run(qk_rotary_reference)[1].flatten(1, 2)[:, int(step.slots)]
    torch.testing.assert_close(caches[:, -1, -1], expected, rtol=8e-3, atol=8e-3)


def test_no_tokens() -> None:
    found, caches = Step(num_tokens=0, half=3, has_norm=True).run(qk_rotary)
    assert found.shape == (0, 3, 12)
    assert caches.isnan().all()


def test_what_does_not_fit_is_refused() -> None:
    step = Step(half=3, has_norm=True)
    with pytest.raises(ValueError, match="without a rotation"):
        step.run(qk_rotary, rotation=None)
    step.value = step.value.mT.contiguous().mT
    with pytest.raises(ValueError, match="value has entries 3 apart"):
        step.run(qk_rotary)
    step = Step()
    cache = torch.zeros(4, BLOCK_SIZE, 3, 12)
    with pytest.raises(ValueError, match="blocks adjoin"):
        qk_rotary(step.query, step.key, step.value, cache[::2], cache[::2], slot_mapping=step.slots)

"""Skipping rows is exact: the dense product on the CPU, and a bundled model's own tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.sparse_down import sparse_squared_relu_linear_reference
from kernels.squared_relu import squared_relu_linear_reference
from model.interface import SamplingParams
from model.open_engine import DEMO_CHECKPOINT, open_engine


@pytest.mark.parametrize("num_tokens", [0, 1, 8, 9])
def test_is_the_dense_product(num_tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(num_tokens, 96, generator=generator, dtype=torch.float32) - 1.2
    weight, bias = torch.randn(24, 96, generator=generator), torch.randn(24, generator=generator)
    counter = torch.zeros(2, dtype=torch.int64)
    found = sparse_squared_relu_linear_reference(states, weight.T.contiguous(), bias, live_counter=counter)
    torch.testing.assert_close(found, squared_relu_linear_reference(states, weight, bias), atol=1e-5, rtol=1e-5)
    live = int((states > 0).any(dim=0).sum()) if 0 < num_tokens <= 8 else 0
    assert counter.tolist() == [live, 96 if 0 < num_tokens <= 8 else 0]


def test_the_demo_says_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["human: What is 3 plus 4?\n\nadept:", "The river", "human: Hello!\n\nadept:"]
    params = SamplingParams(max_tokens=24, temperature=0.0)

    def tokens() -> list[tuple[int, ...]]:
        engine = open_engine(str(DEMO_CHECKPOINT), device="cpu", dtype="float32", kernels="reference")
        try:
            return [tuple(one.token_ids) for prompt in prompts for one in [engine.generate([prompt], params)[0]]]
        finally:
            engine.close()

    dense = tokens()
    counter = torch.zeros(2, dtype=torch.int64)
    matrices: dict[int, Tensor] = {}

    def sparse(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if id(weight) not in matrices:
            matrices[id(weight)] = weight.T.contiguous()
        return sparse_squared_relu_linear_reference(states, matrices[id(weight)], bias, live_counter=counter)

    monkeypatch.setattr("model.layers.ops.squared_relu_linear_", sparse)
    assert tokens() == dense
    live, rows = counter.tolist()
    assert 0 < live < 0.6 * rows  # so that rows were skipped

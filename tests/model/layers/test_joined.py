"""Projections of the same states: one product, parameters of their own in one piece of memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from model.checkpoint.load import load_model
from model.families.llama import LlamaForCausalLM
from model.layers.joined import JoinedProjections, give_memory
from model.layers.linear import Linear
from model.layers.ops import choose_ops

CPU = torch.device("cpu")
DEMO = Path(__file__).parents[3] / "model/demo/llama-demo"


class Owner(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = (Linear(24, size, bias=bias) for size in (16, 8, 5))
        self.joined = JoinedProjections(self.first, self.second, self.third)


@pytest.mark.parametrize("num_tokens", [0, 1, 3, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_one_product_is_the_projections(bias: bool, num_tokens: int) -> None:
    with torch.device("meta"):
        owner = Owner(bias=bias)
    give_memory(owner, CPU)
    for parameter in owner.parameters():
        parameter.normal_()
    states = torch.randn(num_tokens, 24)
    for got, projection in zip(owner.joined(states), (owner.first, owner.second, owner.third), strict=True):
        torch.testing.assert_close(got, nn.functional.linear(states, projection.weight, projection.bias))


def test_without_joined_memory_each_is_a_product_of_its_own() -> None:
    owner, states = Owner(bias=True), torch.randn(3, 24)
    assert torch.equal(owner.joined(states)[1], owner.second(states))


@pytest.mark.parametrize("bias", [False, True])
def test_memory_is_one_piece_and_names_and_shapes_are_as_before(bias: bool) -> None:
    with torch.device("meta"):
        owner = Owner(bias=bias)
    shapes = {name: parameter.shape for name, parameter in owner.named_parameters()}
    give_memory(owner, CPU)
    assert {name: parameter.shape for name, parameter in owner.named_parameters()} == shapes
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in owner.parameters())
    assert owner.first.weight.untyped_storage().nbytes() == (16 + 8 + 5) * 24 * 4
    for kind in ("weight", "bias") if bias else ("weight",):
        places = [getattr(each, kind).data_ptr() for each in (owner.first, owner.second, owner.third)]
        sizes = [getattr(each, kind).nbytes for each in (owner.first, owner.second)]
        assert [after - before for before, after in pairwise(places)] == sizes


def test_shared_parameters_stay_shared_and_columns_stay_in_one_piece() -> None:
    with torch.device("meta"):
        model = nn.ModuleList([nn.Embedding(7, 4), Linear(4, 7, bias=False), Linear(4, 6, by_columns=True)])
        model[1].weight = model[0].weight
    give_memory(model, CPU)
    assert model[1].weight is model[0].weight
    assert model[2].weight.stride() == (1, 6)


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_a_llama_is_loaded_joined_and_computes_what_its_separate_matrices_do(kernels: str) -> None:
    ops = choose_ops(CPU, dtype=torch.float32, wanted=kernels).ops
    model = load_model(DEMO, device=CPU, dtype=torch.float32, ops=ops)
    assert isinstance(model, LlamaForCausalLM)
    layer = model.model.layers[1]
    attention, mlp = layer.self_attn, layer.mlp
    groups = ((attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj))
    states = torch.randn(5, model.config.hidden_size)
    for joined, projections in zip((attention.qkv, mlp.gate_up), groups, strict=True):
        assert len({each.weight.untyped_storage().data_ptr() for each in projections}) == 1
        for got, projection in zip(joined(states), projections, strict=True):
            torch.testing.assert_close(got, states @ projection.weight.T)

"""Logits of a model's own weights in float32, computed by the definition: what bfloat16's rounding is measured against.

The weights of an 8-billion-parameter model in float32 are 38 GB. So they never exist at once: the twin is built without
memory, and each of its layers has its weights only while it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.engine.batch_builder import build_batch
from model.engine.request import Request
from model.engine.scheduler import Scheduled
from model.families.registry import CausalLM
from model.layers.attention_backends import AttentionBackend
from model.layers.ops import REFERENCE

BLOCK_SIZE = 16


@torch.inference_mode()
def logits(
    model: CausalLM,
    token_ids: Sequence[int],
    *,
    first: int,
    device: torch.device,
    dtype: torch.dtype,
    attention: AttentionBackend | None = None,
) -> Tensor:
    """Logits of the positions from `first` on, computed in one step: [num_tokens - first, vocab_size] float32.

    Args:
        device, dtype: of the model's states, and of the cache that is made for this.
        attention: what runs it on a GPU; `None`: the reference.
    """
    num_blocks = len(token_ids) // BLOCK_SIZE + 2
    cache = model.config.kv_cache_shape.allocate(
        num_blocks=num_blocks, block_size=BLOCK_SIZE, dtype=dtype, device=device
    )
    request = Request(
        request_id=0,
        token_ids=list(token_ids),
        num_prompt_tokens=len(token_ids),
        deliver=lambda event: None,
        arrival_s=0.0,
        targets=tuple(token_ids[first:]),  # a row at every position from `first` on
        first_target_position=first,
        block_table=list(range(1, num_blocks)),
    )
    scheduled = [Scheduled(request, len(token_ids))]
    batch, _ = build_batch(scheduled, block_size=BLOCK_SIZE, device=device, attention=attention)
    found: Tensor = model.lm_head(model(batch, cache))
    return found


def reference_twin(model: CausalLM) -> CausalLM:
    """The same weights, in the same memory, computed by the definitions: torch's operations one by one."""
    twin = _without_memory(model)
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.tie_weights()
    return twin.requires_grad_(False).eval()


def float32_twin(model: CausalLM) -> CausalLM:
    """The same in float32; see above."""
    twin = _without_memory(model)
    sources = dict(model.named_modules())
    for name, module in _units(twin).items():
        _lend_weights(module, sources[name])
    return twin.requires_grad_(False).eval()


def _without_memory(model: CausalLM) -> CausalLM:
    with torch.device("meta"):
        return type(model)(model.config, ops=REFERENCE)  # type: ignore[arg-type]


def _units(model: nn.Module) -> dict[str, nn.Module]:
    """What has its weights at a time: each layer, and each module with weights outside of them."""
    layers = {
        f"{name}.{index}": layer
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        for index, layer in enumerate(module)
    }
    others = {
        name: module
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        and not any(name == layer or name.startswith(f"{layer}.") for layer in layers)
    }
    return layers | others


def _lend_weights(module: nn.Module, source: nn.Module) -> None:
    """Let a module have its source's weights in float32 while it runs."""
    owners = {name: module.get_submodule(name.rpartition(".")[0]) for name, _ in module.named_parameters()}
    absent = dict(module.named_parameters())

    def give(*_: Any) -> None:
        for name, weight in source.named_parameters():
            lent = nn.Parameter(weight.float(), requires_grad=False)
            setattr(owners[name], name.rpartition(".")[2], lent)

    def take_back(*_: Any) -> None:
        for name, owner in owners.items():
            setattr(owner, name.rpartition(".")[2], absent[name])

    module.register_forward_pre_hook(give)
    module.register_forward_hook(take_back)

"""How many neurons of each layer's MLP are exactly 0 on given tokens.

A neuron whose activation is 0 for every token of a step adds nothing to the sum, so its weights in the second MLP
matrix need not be read. How much a kernel that skips them can gain therefore depends on the neurons that are live for
*any* token of a step. Two kinds of groups of tokens stand for a step:

* `consecutive`: tokens in a row of one text, as the drafts of one answer in speculative decoding.
* `apart`: tokens of different texts, or far apart in one text, as the answers of several users decoded together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.engine.batch_builder import build_batch
from model.engine.request import Request
from model.engine.scheduler import Scheduled
from model.families.registry import CausalLM
from model.interface import EngineError, InvalidRequest
from model.probes.mlp import MLP, activated, mlps

GROUP_SIZES = (1, 2, 4, 8)
"""Tokens in a step: from 8 on, few rows of the matrix are left to skip even at 90 % zeros."""
STEP_TOKENS = 512
"""Most tokens computed at once: of Persimmon-8B, activations of 16 MiB in bfloat16 a layer."""
APART_TOKENS = 32
"""Least distance of `apart` tokens where both are of one text."""
BLOCK_SIZE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveNeurons:
    """Over `num_groups` groups of tokens: `num_live` counts, in each group, the neurons not 0 for all of its tokens."""

    num_groups: int
    num_live: int
    num_neurons: int

    @property
    def share(self) -> float:
        """Live neurons over all, 0 to 1; NaN without groups."""
        return self.num_live / (self.num_groups * self.num_neurons) if self.num_groups else float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCounts:
    """One layer.

    Attributes:
        num_neurons: the MLP's intermediate size.
        zeros: [num_tokens] int64, neurons that are exactly 0 at each token, in the order of the texts.
        consecutive, apart: by group size.
    """

    num_neurons: int
    zeros: NDArray[np.int64]
    consecutive: Mapping[int, LiveNeurons]
    apart: Mapping[int, LiveNeurons]

    @property
    def zero_share(self) -> float:
        """Over tokens and neurons, 0 to 1; NaN without tokens."""
        return float(self.zeros.mean()) / self.num_neurons if len(self.zeros) else float("nan")


@torch.inference_mode()
def count_zeros(
    model: CausalLM, sequences: Sequence[Sequence[int]], *, step_tokens: int = STEP_TOKENS
) -> list[LayerCounts]:
    """Run texts through a model, many short ones or a part of a long one at a time, and count in every layer.

    Args:
        model: on any device, of any dtype.
        sequences: token ids, each computed from position 0 on; none is empty.
        step_tokens: most tokens at once.

    Returns:
        One entry a layer.

    Raises:
        InvalidRequest: there is no sequence, or an empty one.
        EngineError: a result is not finite.
    """
    if not sequences or not all(sequences):
        raise InvalidRequest("sequences are not allowed to be none or empty: give at least one token of each")
    weight = model.lm_head.weight
    packs = list(_packs(sequences, step_tokens))
    num_blocks = 1 + max(sum(_num_blocks(tokens) for tokens in pack) for pack in packs)  # block 0 is the null block
    cache = model.config.kv_cache_shape.allocate(
        num_blocks=num_blocks, block_size=BLOCK_SIZE, dtype=weight.dtype, device=weight.device
    )
    groups = _Groups(weight.device)
    counters = [_Counter(groups) for _ in mlps(model)]
    hooks = [
        mlp.register_forward_pre_hook(_counting(counter)) for mlp, counter in zip(mlps(model), counters, strict=True)
    ]
    try:
        for pack in packs:
            for scheduled in _steps(pack, step_tokens):
                groups.set([item.num_new_tokens for item in scheduled])
                batch, _ = build_batch(scheduled, block_size=BLOCK_SIZE, device=weight.device)
                # The last layer's activations count for every token too, not only for those whose output is wanted.
                if not model(replace(batch, last=None), cache).isfinite().all():
                    raise EngineError(f"the model gave a number that is not finite in {weight.dtype}: use float32")
    finally:
        for hook in hooks:
            hook.remove()
    return [counter.counts() for counter in counters]


def _packs(sequences: Sequence[Sequence[int]], step_tokens: int) -> Iterator[list[Sequence[int]]]:
    """Sequences that are computed together: several that fit into one step, or one longer than a step."""
    pack: list[Sequence[int]] = []
    for tokens in sequences:
        if pack and sum(map(len, pack)) + len(tokens) > step_tokens:
            yield pack
            pack = []
        pack.append(tokens)
    yield pack


def _num_blocks(tokens: Sequence[int]) -> int:
    return -(-len(tokens) // BLOCK_SIZE)


def _steps(pack: Sequence[Sequence[int]], step_tokens: int) -> Iterator[list[Scheduled]]:
    """The steps of one pack, from empty blocks on."""
    requests: list[Request] = []
    first = 1
    for tokens in pack:
        end = first + _num_blocks(tokens)
        requests.append(
            Request(
                request_id=len(requests),
                token_ids=list(tokens),
                num_prompt_tokens=len(tokens),
                deliver=lambda event: None,
                arrival_s=0.0,
                wants_hidden_state=True,
                block_table=list(range(first, end)),
            )
        )
        first = end
    while requests[0].num_left:  # more than one step only if it is alone
        scheduled = [Scheduled(request, min(step_tokens, request.num_left)) for request in requests]
        yield scheduled
        for item in scheduled:
            item.request.num_computed_tokens += item.num_new_tokens


class _Groups:
    """The groups of the step that runs: by size, the packed tokens of each group, [num_groups, size] int64."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.consecutive: dict[int, Tensor] = {}
        self.apart: dict[int, Tensor] = {}

    def set(self, lengths: Sequence[int]) -> None:
        """Begin a step of sequences with so many new tokens."""
        for size in GROUP_SIZES:
            self.consecutive[size] = torch.from_numpy(_consecutive(lengths, size)).to(self._device)
            self.apart[size] = torch.from_numpy(_apart(sum(lengths), size)).to(self._device)


def _consecutive(lengths: Sequence[int], size: int) -> NDArray[np.int64]:
    """Groups of tokens in a row inside one sequence; what is left over at a sequence's end is in none."""
    starts = np.cumsum([0, *lengths[:-1]])
    firsts = [np.arange(n // size) * size + start for n, start in zip(lengths, starts, strict=True)]
    return (np.concatenate(firsts)[:, None] + np.arange(size)).astype(np.int64)


def _apart(num_tokens: int, size: int) -> NDArray[np.int64]:
    """Groups of tokens spread evenly over the step; none if they would be too near."""
    distance = num_tokens // size
    if size > 1 and distance < APART_TOKENS:
        distance = 0
    return (np.arange(distance)[:, None] + np.arange(size) * distance).astype(np.int64)


@dataclass(slots=True)
class _Counter:
    """One layer's sums; tensors stay on the device until the end, so that nothing waits for it."""

    groups: _Groups
    num_neurons: int = 0
    zeros: list[Tensor] = field(default_factory=list)
    consecutive: dict[int, list[tuple[int, Tensor]]] = field(default_factory=dict)
    apart: dict[int, list[tuple[int, Tensor]]] = field(default_factory=dict)

    def add(self, live: Tensor) -> None:
        """Count a step: [num_tokens, intermediate_size] bool."""
        self.num_neurons = live.shape[1]
        self.zeros.append(self.num_neurons - live.sum(dim=1))
        for sums, kind in ((self.consecutive, self.groups.consecutive), (self.apart, self.groups.apart)):
            for size, tokens in kind.items():
                sums.setdefault(size, []).append((len(tokens), live[tokens].any(dim=1).sum()))

    def counts(self) -> LayerCounts:
        def total(sums: dict[int, list[tuple[int, Tensor]]]) -> dict[int, LiveNeurons]:
            return {
                size: LiveNeurons(
                    num_groups=sum(number for number, _ in steps),
                    num_live=int(torch.stack([num_live for _, num_live in steps]).sum()),
                    num_neurons=self.num_neurons,
                )
                for size, steps in sums.items()
            }

        return LayerCounts(
            num_neurons=self.num_neurons,
            zeros=torch.cat(self.zeros).cpu().numpy(),
            consecutive=total(self.consecutive),
            apart=total(self.apart),
        )


def _counting(counter: _Counter) -> Callable[[MLP, tuple[Any, ...]], None]:
    def hook(mlp: MLP, inputs: tuple[Any, ...]) -> None:
        counter.add(activated(mlp, inputs[0]) != 0)

    return hook

"""MPT written down from MosaicML's definition, for the options that Hugging Face's class leaves out.

Source: mosaicml/llm-foundry, models/mpt and models/layers. It shares no code with our model or loader: whole prompts,
dense attention, float64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor


class MptDefinition:
    """A checkpoint folder with one safetensors file, as the definition runs it."""

    def __init__(self, folder: Path) -> None:
        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self._tensors = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}

    def logits(self, token_ids: list[int]) -> Tensor:
        """[num_tokens, vocab_size] float64."""
        return mpt_logits(self._tensors, self._config, token_ids)

    def greedy(self, token_ids: list[int], *, count: int) -> list[int]:
        """`count` tokens, each the likeliest after all before it."""
        answer = list(token_ids)
        for _ in range(count):
            answer.append(int(self.logits(answer)[-1].argmax()))
        return answer[len(token_ids) :]


def mpt_logits(tensors: Mapping[str, Tensor], config: Mapping[str, Any], token_ids: list[int]) -> Tensor:
    """The definition's forward.

    Args:
        tensors: float64, by their names in the checkpoint. config: config.json.

    Returns:
        [num_tokens, vocab_size] float64.
    """
    attention, size, heads = config["attn_config"], config["d_model"], config["n_heads"]

    def norm(states: Tensor, name: str) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
        return F.layer_norm(states, (size,), weight, bias, config["layer_norm_epsilon"])

    def linear(states: Tensor, name: str) -> Tensor:
        return F.linear(states, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    positions = torch.arange(len(token_ids))
    distances = positions - positions[:, None]  # of key from query, [num_tokens, num_tokens]
    scores_bias = torch.zeros(heads, 1, 1).double()
    if attention.get("alibi", True):
        scores_bias = alibi_slopes(heads, attention.get("alibi_bias_max", 8))[:, None, None] * distances
    scores_bias = scores_bias.masked_fill(distances > 0, -torch.inf)  # [num_heads, num_tokens, num_tokens]

    states = tensors["transformer.wte.weight"][token_ids]  # [num_tokens, d_model]
    if "transformer.wpe.weight" in tensors:
        states = states + tensors["transformer.wpe.weight"][: len(token_ids)]
    for i in range(config["n_layers"]):
        block = f"transformer.blocks.{i}"
        qkv = linear(norm(states, f"{block}.norm_1"), f"{block}.attn.Wqkv")
        if attention.get("clip_qkv"):
            qkv = qkv.clamp(-attention["clip_qkv"], attention["clip_qkv"])
        query_states, key_states, value_states = qkv.chunk(3, dim=-1)
        if attention.get("qk_ln"):
            query_states = norm(query_states, f"{block}.attn.q_ln")
            key_states = norm(key_states, f"{block}.attn.k_ln")
        q, k, v = (
            x.view(-1, heads, size // heads).transpose(0, 1)  # [num_heads, num_tokens, head_dim]
            for x in (query_states, key_states, value_states)
        )
        scale = attention.get("softmax_scale") or (size // heads) ** -0.5
        weights = (q @ k.transpose(1, 2) * scale + scores_bias).softmax(-1)
        states = states + linear((weights @ v).transpose(0, 1).flatten(1), f"{block}.attn.out_proj")
        hidden = F.gelu(linear(norm(states, f"{block}.norm_2"), f"{block}.ffn.up_proj"))
        states = states + linear(hidden, f"{block}.ffn.down_proj")
    head = tensors.get("lm_head.weight", tensors["transformer.wte.weight"])
    logit_scale = config.get("logit_scale") or 1.0
    return norm(states, "transformer.norm_f") @ head.T * (size**-0.5 if isinstance(logit_scale, str) else logit_scale)


def alibi_slopes(heads: int, bias_max: float) -> Tensor:
    """[heads] float64: 2^(-bias_max * i / n), n the next power of two; of more than `heads` every second first."""
    full = 2 ** math.ceil(math.log2(heads))
    slopes = [2 ** (-bias_max * (i + 1) / full) for i in range(full)]
    if full != heads:
        slopes = (slopes[1::2] + slopes[::2])[:heads]
    return torch.tensor(slopes, dtype=torch.float64)

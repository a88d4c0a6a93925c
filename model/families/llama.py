"""Llama: RMSNorm, grouped-query attention, full rotary, SwiGLU.

Module names are the checkpoint's tensor names (Hugging Face's), so that no renaming table is needed.
Sources: meta-llama/llama and Hugging Face's `LlamaForCausalLM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.qk_rotary import Rotation
from model.chat_template import TranscriptChatTemplate
from model.checkpoint.config_json import require, require_flag
from model.checkpoint.errors import CheckpointError
from model.layers.activations import activation
from model.layers.embedding import embedding
from model.layers.forward_batch import ForwardBatch
from model.layers.joined import JoinedProjections
from model.layers.kv_cache import KVCacheShape, LayerCache
from model.layers.linear import Linear
from model.layers.lm_head import LMHead
from model.layers.norms import RMSNorm
from model.layers.ops import REFERENCE, Ops
from model.layers.rotary import RotaryConfig, RotaryEmbedding

# Llama 1 and 2 configs do not say it; transformers' LlamaConfig assumes it.
DEFAULT_ROPE_THETA = 10000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaConfig:
    """Sizes in elements; see Hugging Face's `LlamaConfig` for the keys."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    hidden_act: str
    rms_norm_eps: float
    attention_bias: bool
    mlp_bias: bool
    tie_word_embeddings: bool
    rotary: RotaryConfig

    @classmethod
    def from_json(cls, config: Mapping[str, Any], *, rope_position_dtype: torch.dtype) -> LlamaConfig:
        """Read config.json.

        Raises:
            CheckpointError: a key is missing, or its value is not supported.
        """
        hidden_size, num_heads = require(config, "hidden_size", int), require(config, "num_attention_heads", int)
        num_kv_heads = num_heads
        if config.get("num_key_value_heads") is not None:
            num_kv_heads = require(config, "num_key_value_heads", int)
        if num_heads % num_kv_heads:
            raise CheckpointError(
                f"config.json has num_attention_heads={num_heads}, which num_key_value_heads={num_kv_heads} does not "
                "divide"
            )
        if config.get("head_dim") is None and hidden_size % num_heads:
            raise CheckpointError(
                f"config.json has hidden_size={hidden_size}, which num_attention_heads={num_heads} does not divide"
            )
        head_dim = hidden_size // num_heads if config.get("head_dim") is None else require(config, "head_dim", int)
        return cls(
            vocab_size=require(config, "vocab_size", int),
            hidden_size=hidden_size,
            intermediate_size=require(config, "intermediate_size", int),
            num_hidden_layers=require(config, "num_hidden_layers", int),
            num_attention_heads=num_heads,
            num_key_value_heads=num_kv_heads,
            head_dim=head_dim,
            hidden_act=require(config, "hidden_act", str),
            rms_norm_eps=require(config, "rms_norm_eps", float),
            attention_bias=require_flag(config, "attention_bias", default=False),
            mlp_bias=require_flag(config, "mlp_bias", default=False),
            tie_word_embeddings=require_flag(config, "tie_word_embeddings", default=False),
            rotary=RotaryConfig.from_config(
                config,
                head_dim=head_dim,
                default_partial_rotary_factor=1.0,
                default_theta=DEFAULT_ROPE_THETA,
                position_dtype=rope_position_dtype,
            ),
        )

    @property
    def context_length(self) -> int:
        return self.rotary.context_length

    @property
    def can_exceed_context_length(self) -> bool:
        return False

    @property
    def keys_depend_on_prompt_length(self) -> bool:
        return self.rotary.rope_type == "dynamic"

    @property
    def kv_cache_shape(self) -> KVCacheShape:
        return KVCacheShape(
            num_layers=self.num_hidden_layers, num_kv_heads=self.num_key_value_heads, head_dim=self.head_dim
        )


class LlamaAttention(nn.Module):
    def __init__(self, config: LlamaConfig, ops: Ops) -> None:
        super().__init__()
        self.head_dim, self.ops, bias = config.head_dim, ops, config.attention_bias
        query_size, kv_size = (n * self.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = Linear(config.hidden_size, query_size, bias=bias, ops=ops)
        self.k_proj = Linear(config.hidden_size, kv_size, bias=bias, ops=ops)
        self.v_proj = Linear(config.hidden_size, kv_size, bias=bias, ops=ops)
        self.qkv = JoinedProjections(self.q_proj, self.k_proj, self.v_proj)
        self.o_proj = Linear(query_size, config.hidden_size, bias=bias, ops=ops)

    def forward(self, hidden_states: Tensor, rotation: Rotation, *, cache: LayerCache, batch: ForwardBatch) -> Tensor:
        query, key, value = (
            states.unflatten(-1, (-1, self.head_dim))  # [num_tokens, num(_kv)_heads, head_dim]
            for states in self.qkv(hidden_states)
        )
        attended = self.ops.attention(
            query, key, value, cache=cache, batch=batch, scale=self.head_dim**-0.5, rotation=rotation
        )
        return self.o_proj(attended.flatten(1))  # type: ignore[no-any-return]


class LlamaMLP(nn.Module):
    def __init__(self, config: LlamaConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias, ops=ops)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias, ops=ops)
        self.gate_up = JoinedProjections(self.gate_proj, self.up_proj)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias, ops=ops)
        self.activation = activation(config.hidden_act)

    def forward(self, hidden_states: Tensor) -> Tensor:
        gate, up = self.gate_up(hidden_states)
        gated = self.ops.swiglu(gate, up) if self.activation is F.silu else self.activation(gate) * up
        return self.down_proj(gated)  # type: ignore[no-any-return]


class LlamaDecoderLayer(nn.Module):
    def __init__(self, config: LlamaConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = LlamaAttention(config, ops)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = LlamaMLP(config, ops)

    def forward(
        self, residual: Tensor, delta: Tensor | None, rotation: Rotation, *, cache: LayerCache, batch: ForwardBatch
    ) -> tuple[Tensor, Tensor]:
        """The residual stream and what has yet to be added to it; see `Ops`."""
        residual, normed = self.ops.rms_norm(residual, delta, self.input_layernorm)
        attended = self.self_attn(normed, rotation, cache=cache, batch=batch)
        residual, normed = self.ops.rms_norm(batch.going_on(residual), attended, self.post_attention_layernorm)
        return residual, self.mlp(normed)


class LlamaModel(nn.Module):
    def __init__(self, config: LlamaConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.embed_tokens = embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(LlamaDecoderLayer(config, ops) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config.rotary)

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        residual, delta = batch.embed(self.embed_tokens), None  # [num_tokens, hidden_size]
        rotation = self.rotary.rotation(batch.positions, batch.rotary_lens, dtype=residual.dtype)
        for layer, cache, each in zip(self.layers, kv_cache, batch.in_layers(len(self.layers)), strict=True):
            residual, delta = layer(residual, delta, rotation, cache=cache, batch=each)
        _, normed = self.ops.rms_norm(residual, delta, self.norm)
        return batch.wanted(normed)


class LlamaForCausalLM(nn.Module):
    """`forward` gives final hidden states of the rows asked for, [num_rows, hidden_size]; `lm_head` the rest."""

    chat_template = TranscriptChatTemplate()
    prompts_begin_with_bos = True  # as the model was trained and as Meta's and Hugging Face's tokenizers do
    skips_zero_rows = False
    embedding_name = "model.embed_tokens.weight"
    head_name = "lm_head.weight"
    # Buffers that older exports stored; they follow from the config.
    ignored_tensors = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"

    def __init__(self, config: LlamaConfig, *, ops: Ops = REFERENCE) -> None:
        super().__init__()
        self.config = config
        self.model = LlamaModel(config, ops)
        self.lm_head = LMHead(config.hidden_size, config.vocab_size, ops=ops)
        self.tie_weights()

    @classmethod
    def from_json(
        cls, config: Mapping[str, Any], *, rope_position_dtype: torch.dtype, ops: Ops = REFERENCE
    ) -> LlamaForCausalLM:
        """A model for a config.json; raises CheckpointError as its config does."""
        return cls(LlamaConfig.from_json(config, rope_position_dtype=rope_position_dtype), ops=ops)

    def tie_weights(self) -> None:
        """Share the embedding with the head where the config says so; again after memory has been given to both."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        return self.model(batch, kv_cache)  # type: ignore[no-any-return]

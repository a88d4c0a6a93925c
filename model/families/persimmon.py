"""Persimmon: LayerNorm with bias, LayerNorm on every query and key head, partial rotary, squared ReLU.

Module names are the checkpoint's tensor names (Hugging Face's), so that no renaming table is needed.
Sources: Adept's release (persimmon-ai-labs/adept-inference, megatron/model/transformer.py) and Hugging Face's
`PersimmonForCausalLM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kernels.rotary import apply_rotary_
from kernels.squared_relu import squared_relu_linear_
from model.chat_template import AdeptChatTemplate
from model.checkpoint.config_json import require, require_flag
from model.checkpoint.errors import CheckpointError
from model.layers.activations import activation, relu_squared
from model.layers.attention import cached_attention
from model.layers.forward_batch import ForwardBatch
from model.layers.kv_cache import KVCacheShape, LayerCache
from model.layers.linear import Linear
from model.layers.lm_head import LMHead
from model.layers.rotary import RotaryConfig, RotaryEmbedding

# The published model rotates half of each head; transformers assumes it where a config does not say
# (PersimmonConfig.__post_init__, "assign default for BC").
DEFAULT_PARTIAL_ROTARY_FACTOR = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class PersimmonConfig:
    """Sizes in elements; see Hugging Face's `PersimmonConfig` for the keys."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float
    qk_layernorm: bool
    tie_word_embeddings: bool
    rotary: RotaryConfig

    @classmethod
    def from_json(cls, config: Mapping[str, Any], *, rope_position_dtype: torch.dtype) -> PersimmonConfig:
        """Read config.json.

        Raises:
            CheckpointError: a key is missing, or its value is not supported.
        """
        hidden_size, num_heads = (
            require(config, "hidden_size", int),
            require(config, "num_attention_heads", int),
        )
        if hidden_size % num_heads:
            raise CheckpointError(
                f"config.json has hidden_size={hidden_size}, which num_attention_heads={num_heads} does not divide"
            )
        num_kv_heads = config.get("num_key_value_heads", num_heads)
        if num_kv_heads != num_heads:
            raise CheckpointError(
                f"config.json has num_key_value_heads={num_kv_heads}: Persimmon has one for each of its "
                f"{num_heads} heads"
            )
        return cls(
            vocab_size=require(config, "vocab_size", int),
            hidden_size=hidden_size,
            intermediate_size=require(config, "intermediate_size", int),
            num_hidden_layers=require(config, "num_hidden_layers", int),
            num_attention_heads=num_heads,
            hidden_act=require(config, "hidden_act", str),
            layer_norm_eps=require(config, "layer_norm_eps", float),
            qk_layernorm=require_flag(config, "qk_layernorm", default=True),
            tie_word_embeddings=require_flag(config, "tie_word_embeddings", default=False),
            rotary=RotaryConfig.from_config(
                config,
                head_dim=hidden_size // num_heads,
                default_partial_rotary_factor=DEFAULT_PARTIAL_ROTARY_FACTOR,
                default_theta=None,
                position_dtype=rope_position_dtype,
            ),
        )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

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
            num_layers=self.num_hidden_layers, num_kv_heads=self.num_attention_heads, head_dim=self.head_dim
        )


class PersimmonAttention(nn.Module):
    def __init__(self, config: PersimmonConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.q_layernorm: nn.Module = nn.Identity()
        self.k_layernorm: nn.Module = nn.Identity()
        if config.qk_layernorm:  # one weight and bias, shared by a layer's heads
            self.q_layernorm = nn.LayerNorm(config.head_dim, eps=config.layer_norm_eps)
            self.k_layernorm = nn.LayerNorm(config.head_dim, eps=config.layer_norm_eps)

    def forward(
        self, hidden_states: Tensor, cos: Tensor, sin: Tensor, *, cache: LayerCache, batch: ForwardBatch
    ) -> Tensor:
        # rows are head-major: q, k, v of head 0, then of head 1, ...
        qkv = self.query_key_value(hidden_states).view(-1, self.num_heads, 3, self.head_dim)
        query, key, value = qkv.unbind(dim=2)  # [num_tokens, num_heads, head_dim]
        query, key = self.q_layernorm(query), self.k_layernorm(key)
        apply_rotary_(query, cos, sin)
        apply_rotary_(key, cos, sin)
        attended = cached_attention(query, key, value, cache=cache, batch=batch, scale=self.head_dim**-0.5)
        return self.dense(attended.flatten(1))  # type: ignore[no-any-return]


class PersimmonMLP(nn.Module):
    def __init__(self, config: PersimmonConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = Linear(config.hidden_size, config.intermediate_size)
        self.dense_4h_to_h = Linear(config.intermediate_size, config.hidden_size)
        self.activation = activation(config.hidden_act)

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.dense_h_to_4h(hidden_states)  # [num_tokens, intermediate_size]
        if self.activation is relu_squared:  # in one with the matrix after it, which keeps it in fp16's range
            return squared_relu_linear_(hidden_states, self.dense_4h_to_h.weight, self.dense_4h_to_h.bias)
        return self.dense_4h_to_h(self.activation(hidden_states))  # type: ignore[no-any-return]


class PersimmonDecoderLayer(nn.Module):
    def __init__(self, config: PersimmonConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = PersimmonAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = PersimmonMLP(config)

    def forward(
        self, hidden_states: Tensor, cos: Tensor, sin: Tensor, *, cache: LayerCache, batch: ForwardBatch
    ) -> Tensor:
        normed = self.input_layernorm(hidden_states)
        attended = self.self_attn(normed, cos, sin, cache=cache, batch=batch)
        hidden_states = batch.going_on(hidden_states) + attended
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))  # type: ignore[no-any-return]


class PersimmonModel(nn.Module):
    def __init__(self, config: PersimmonConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(PersimmonDecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.rotary = RotaryEmbedding(config.rotary)

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        hidden_states = batch.embed(self.embed_tokens)  # [num_tokens, hidden_size]
        cos, sin = self.rotary.cos_sin(batch.positions, batch.rotary_lens, dtype=hidden_states.dtype)
        for layer, cache, each in zip(self.layers, kv_cache, batch.in_layers(len(self.layers)), strict=True):
            hidden_states = layer(hidden_states, cos, sin, cache=cache, batch=each)
        return self.final_layernorm(batch.wanted(hidden_states))  # type: ignore[no-any-return]


class PersimmonForCausalLM(nn.Module):
    """`forward` gives final hidden states of the rows asked for, [num_rows, hidden_size]; `lm_head` the rest."""

    chat_template = AdeptChatTemplate()
    prompts_begin_with_bos = False  # Adept's server adds none
    embedding_name = "model.embed_tokens.weight"
    head_name = "lm_head.weight"
    # Buffers that older exports stored; they follow from the config.
    ignored_tensors = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"

    def __init__(self, config: PersimmonConfig) -> None:
        super().__init__()
        self.config = config
        self.model = PersimmonModel(config)
        self.lm_head = LMHead(config.hidden_size, config.vocab_size)
        self.tie_weights()

    @classmethod
    def from_json(cls, config: Mapping[str, Any], *, rope_position_dtype: torch.dtype) -> PersimmonForCausalLM:
        """A model for a config.json; raises CheckpointError as its config does."""
        return cls(PersimmonConfig.from_json(config, rope_position_dtype=rope_position_dtype))

    def tie_weights(self) -> None:
        """Share the embedding with the head where the config says so; again after memory has been given to both."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        return self.model(batch, kv_cache)  # type: ignore[no-any-return]

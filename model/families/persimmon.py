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

from kernels.qk_rotary import Rotation
from model.chat_template import AdeptChatTemplate
from model.checkpoint.config_json import require, require_flag
from model.checkpoint.errors import CheckpointError
from model.layers.activations import activation, relu_squared
from model.layers.embedding import embedding
from model.layers.forward_batch import ForwardBatch
from model.layers.kv_cache import KVCacheShape, LayerCache
from model.layers.linear import Linear
from model.layers.lm_head import LMHead
from model.layers.ops import REFERENCE, Ops
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
    def __init__(self, config: PersimmonConfig, ops: Ops) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.ops = config.num_attention_heads, config.head_dim, ops
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size, ops=ops)
        self.dense = Linear(config.hidden_size, config.hidden_size, ops=ops)
        self.head_norms: tuple[nn.LayerNorm, nn.LayerNorm] | None = None
        if config.qk_layernorm:  # one weight and bias, shared by a layer's heads
            self.q_layernorm = nn.LayerNorm(config.head_dim, eps=config.layer_norm_eps)
            self.k_layernorm = nn.LayerNorm(config.head_dim, eps=config.layer_norm_eps)
            self.head_norms = (self.q_layernorm, self.k_layernorm)

    def forward(self, hidden_states: Tensor, rotation: Rotation, *, cache: LayerCache, batch: ForwardBatch) -> Tensor:
        # rows are head-major: q, k, v of head 0, then of head 1, ...
        qkv = self.query_key_value(hidden_states).view(-1, self.num_heads, 3, self.head_dim)
        query, key, value = qkv.unbind(dim=2)  # [num_tokens, num_heads, head_dim]
        attended = self.ops.attention(
            query,
            key,
            value,
            cache=cache,
            batch=batch,
            scale=self.head_dim**-0.5,
            rotation=rotation,
            head_norms=self.head_norms,
        )
        return self.dense(attended.flatten(1))  # type: ignore[no-any-return]


class PersimmonMLP(nn.Module):
    def __init__(self, config: PersimmonConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.activation = activation(config.hidden_act)
        self.dense_h_to_4h = Linear(config.hidden_size, config.intermediate_size, ops=ops)
        self.dense_4h_to_h = Linear(
            config.intermediate_size,
            config.hidden_size,
            ops=ops,
            by_columns=ops.reads_columns and self.activation is relu_squared,
        )

    def forward(self, hidden_states: Tensor, batch: ForwardBatch) -> tuple[Tensor, Tensor | None]:
        """A delta for the residual stream, and a bias that it has yet to be given; see `Ops`."""
        hidden_states = self.dense_h_to_4h(hidden_states)  # [num_tokens, intermediate_size]
        if self.activation is relu_squared:  # in one with the matrix after it, which keeps it in fp16's range
            return self.ops.squared_relu_linear(hidden_states, self.dense_4h_to_h, batch)
        return self.dense_4h_to_h(self.activation(hidden_states)), None


class PersimmonDecoderLayer(nn.Module):
    def __init__(self, config: PersimmonConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = PersimmonAttention(config, ops)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = PersimmonMLP(config, ops)

    def forward(
        self,
        residual: Tensor,
        delta: Tensor | None,
        delta_bias: Tensor | None,
        rotation: Rotation,
        *,
        cache: LayerCache,
        batch: ForwardBatch,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The residual stream, what has yet to be added to it, and that one's bias; see `Ops`."""
        residual, normed = self.ops.layer_norm(residual, delta, delta_bias, self.input_layernorm)
        attended = self.self_attn(normed, rotation, cache=cache, batch=batch)
        residual, normed = self.ops.layer_norm(batch.going_on(residual), attended, None, self.post_attention_layernorm)
        return residual, *self.mlp(normed, batch)


class PersimmonModel(nn.Module):
    def __init__(self, config: PersimmonConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.embed_tokens = embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(PersimmonDecoderLayer(config, ops) for _ in range(config.num_hidden_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.rotary = RotaryEmbedding(config.rotary)

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        residual, delta, delta_bias = batch.embed(self.embed_tokens), None, None  # [num_tokens, hidden_size]
        rotation = self.rotary.rotation(batch.positions, batch.rotary_lens, dtype=residual.dtype)
        for layer, cache, each in zip(self.layers, kv_cache, batch.in_layers(len(self.layers)), strict=True):
            residual, delta, delta_bias = layer(residual, delta, delta_bias, rotation, cache=cache, batch=each)
        _, normed = self.ops.layer_norm(residual, delta, delta_bias, self.final_layernorm)
        return batch.wanted(normed)


class PersimmonForCausalLM(nn.Module):
    """`forward` gives final hidden states of the rows asked for, [num_rows, hidden_size]; `lm_head` the rest."""

    chat_template = AdeptChatTemplate()
    prompts_begin_with_bos = False  # Adept's server adds none
    embedding_name = "model.embed_tokens.weight"
    head_name = "lm_head.weight"
    # Buffers that older exports stored; they follow from the config.
    ignored_tensors = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"

    def __init__(self, config: PersimmonConfig, *, ops: Ops = REFERENCE) -> None:
        super().__init__()
        self.config = config
        self.model = PersimmonModel(config, ops)
        self.lm_head = LMHead(config.hidden_size, config.vocab_size, ops=ops)
        # of the second MLP matrices, where a step has few tokens
        self.skips_zero_rows = ops.reads_columns and activation(config.hidden_act) is relu_squared
        self.tie_weights()

    @classmethod
    def from_json(
        cls, config: Mapping[str, Any], *, rope_position_dtype: torch.dtype, ops: Ops = REFERENCE
    ) -> PersimmonForCausalLM:
        """A model for a config.json; raises CheckpointError as its config does."""
        return cls(PersimmonConfig.from_json(config, rope_position_dtype=rope_position_dtype), ops=ops)

    def tie_weights(self) -> None:
        """Share the embedding with the head where the config says so; again after memory has been given to both."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        return self.model(batch, kv_cache)  # type: ignore[no-any-return]

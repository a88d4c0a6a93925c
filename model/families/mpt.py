"""MPT: LayerNorm, ALiBi instead of positions, exact GELU, fused [Q; K; V], tied head.

Module names are the checkpoint's tensor names (Hugging Face's), so that no renaming table is needed.
Sources: MosaicML's own definition (mosaicml/llm-foundry, models/mpt and models/layers), which has options that Hugging
Face's `MptForCausalLM` ignores: biases, q/k norms, learned positions, other widths of the MLP, other bias maxima.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.chat_template import InstructChatTemplate
from model.checkpoint.config_json import require, require_flag
from model.checkpoint.errors import CheckpointError
from model.layers.alibi import alibi_slopes
from model.layers.embedding import embedding
from model.layers.forward_batch import ForwardBatch
from model.layers.kv_cache import KVCacheShape, LayerCache
from model.layers.linear import Linear
from model.layers.lm_head import LMHead
from model.layers.ops import REFERENCE, Ops

DEFAULT_ALIBI_BIAS_MAX = 8  # llm-foundry's and transformers' default
NORM_TYPES = ("layernorm", "low_precision_layernorm")  # the second is the first, run in the model's dtype
# Settings that change what is computed, with the only value each may have here.
FIXED_ATTENTION = {"attn_type": "multihead_attention", "prefix_lm": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class MptConfig:
    """Sizes in elements; see Hugging Face's `MptConfig` for the keys."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_seq_len: int
    layer_norm_eps: float
    bias: bool
    qk_ln: bool
    clip_qkv: float | None
    softmax_scale: float
    alibi_bias_max: float | None  # None: no ALiBi
    learned_positions: bool
    logit_scale: float
    tie_word_embeddings: bool

    @classmethod
    def from_json(cls, config: Mapping[str, Any], *, rope_position_dtype: torch.dtype) -> MptConfig:
        """Read config.json.

        Raises:
            CheckpointError: a key is missing, or its value is not supported.
        """
        if rope_position_dtype != torch.float32:
            raise CheckpointError("MPT has no rotary positions: rope_position_dtype can only be float32")
        hidden_size, num_heads = require(config, "d_model", int), require(config, "n_heads", int)
        if hidden_size % num_heads:
            raise CheckpointError(f"config.json has d_model={hidden_size}, which n_heads={num_heads} does not divide")
        attention = config.get("attn_config") or {}
        for key, value in FIXED_ATTENTION.items():
            if attention.get(key, value) != value:
                raise CheckpointError(f"config.json has {key}={attention[key]!r}: only {value!r} is supported")
        if config.get("norm_type", NORM_TYPES[0]) not in NORM_TYPES:
            raise CheckpointError(
                f"config.json has norm_type={config['norm_type']!r}: use one of {', '.join(NORM_TYPES)}"
            )
        uses_alibi = require_flag(attention, "alibi", default=True)
        bias_max = attention.get("alibi_bias_max", DEFAULT_ALIBI_BIAS_MAX)
        logit_scale = config.get("logit_scale")
        return cls(
            vocab_size=require(config, "vocab_size", int),
            hidden_size=hidden_size,
            intermediate_size=hidden_size * int(config.get("expansion_ratio", 4)),
            num_hidden_layers=require(config, "n_layers", int),
            num_attention_heads=num_heads,
            max_seq_len=require(config, "max_seq_len", int),
            layer_norm_eps=float(config.get("layer_norm_epsilon", 1e-5)),
            bias=not require_flag(config, "no_bias", default=True),
            qk_ln=require_flag(attention, "qk_ln", default=False),
            clip_qkv=None if attention.get("clip_qkv") is None else require(attention, "clip_qkv", float),
            softmax_scale=(
                (hidden_size // num_heads) ** -0.5
                if attention.get("softmax_scale") is None
                else require(attention, "softmax_scale", float)
            ),
            alibi_bias_max=float(bias_max) if uses_alibi else None,
            learned_positions=not uses_alibi and require_flag(config, "learned_pos_emb", default=True),
            logit_scale=hidden_size**-0.5 if logit_scale == "inv_sqrt_d_model" else float(logit_scale or 1.0),
            tie_word_embeddings=require_flag(config, "tie_word_embeddings", default=True),
        )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def context_length(self) -> int:
        return self.max_seq_len

    @property
    def can_exceed_context_length(self) -> bool:
        return not self.learned_positions  # ALiBi extrapolates: there is no table of positions to run out of

    @property
    def keys_depend_on_prompt_length(self) -> bool:
        return False

    @property
    def kv_cache_shape(self) -> KVCacheShape:
        return KVCacheShape(
            num_layers=self.num_hidden_layers, num_kv_heads=self.num_attention_heads, head_dim=self.head_dim
        )


def layer_norm(config: MptConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=config.bias)


class MptAttention(nn.Module):
    def __init__(self, config: MptConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.head_dim, self.clip_qkv, self.scale = config.head_dim, config.clip_qkv, config.softmax_scale
        self.Wqkv = Linear(config.hidden_size, 3 * config.hidden_size, bias=config.bias, ops=ops)
        self.out_proj = Linear(config.hidden_size, config.hidden_size, bias=config.bias, ops=ops)
        self.q_ln: nn.Module = layer_norm(config) if config.qk_ln else nn.Identity()
        self.k_ln: nn.Module = layer_norm(config) if config.qk_ln else nn.Identity()

    def forward(self, hidden_states: Tensor, alibi: Tensor | None, *, cache: LayerCache, batch: ForwardBatch) -> Tensor:
        qkv = self.Wqkv(hidden_states)
        if self.clip_qkv is not None:
            qkv = qkv.clamp(-self.clip_qkv, self.clip_qkv)
        query, key, value = qkv.chunk(3, dim=-1)  # [num_tokens, hidden_size]
        query, key, value = (
            states.unflatten(-1, (-1, self.head_dim))  # [num_tokens, num_heads, head_dim]
            for states in (self.q_ln(query), self.k_ln(key), value)
        )
        attended = self.ops.attention(query, key, value, cache=cache, batch=batch, scale=self.scale, alibi_slopes=alibi)
        return self.out_proj(attended.flatten(1))  # type: ignore[no-any-return]


class MptMLP(nn.Module):
    def __init__(self, config: MptConfig, ops: Ops) -> None:
        super().__init__()
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.bias, ops=ops)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.bias, ops=ops)
        self.activation = ops.gelu

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.up_proj(hidden_states)))  # type: ignore[no-any-return]


class MptDecoderLayer(nn.Module):
    def __init__(self, config: MptConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.norm_1 = layer_norm(config)
        self.attn = MptAttention(config, ops)
        self.norm_2 = layer_norm(config)
        self.ffn = MptMLP(config, ops)

    def forward(
        self, residual: Tensor, delta: Tensor | None, alibi: Tensor | None, *, cache: LayerCache, batch: ForwardBatch
    ) -> tuple[Tensor, Tensor]:
        """The residual stream and what has yet to be added to it; see `Ops`."""
        residual, normed = self.ops.layer_norm(residual, delta, None, self.norm_1)
        attended = self.attn(normed, alibi, cache=cache, batch=batch)
        residual, normed = self.ops.layer_norm(batch.going_on(residual), attended, None, self.norm_2)
        return residual, self.ffn(normed)


class MptModel(nn.Module):
    def __init__(self, config: MptConfig, ops: Ops) -> None:
        super().__init__()
        self.config = config
        self.ops = ops
        self.wte = embedding(config.vocab_size, config.hidden_size)
        if config.learned_positions:
            self.wpe = embedding(config.max_seq_len, config.hidden_size)
        self.blocks = nn.ModuleList(MptDecoderLayer(config, ops) for _ in range(config.num_hidden_layers))
        self.norm_f = layer_norm(config)

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        residual, delta = batch.embed(self.wte), None  # [num_tokens, hidden_size]
        if self.config.learned_positions:
            residual = residual + self.wpe(batch.positions)
        alibi = None
        if self.config.alibi_bias_max is not None:
            heads, bias_max = self.config.num_attention_heads, self.config.alibi_bias_max
            alibi = alibi_slopes(heads, bias_max=bias_max, device=residual.device)
        for block, cache, each in zip(self.blocks, kv_cache, batch.in_layers(len(self.blocks)), strict=True):
            residual, delta = block(residual, delta, alibi, cache=cache, batch=each)
        _, normed = self.ops.layer_norm(residual, delta, None, self.norm_f)
        return batch.wanted(normed)


class MptForCausalLM(nn.Module):
    """`forward` gives final hidden states of the rows asked for, [num_rows, hidden_size]; `lm_head` the rest."""

    chat_template = InstructChatTemplate()
    prompts_begin_with_bos = False
    skips_zero_rows = False
    embedding_name = "transformer.wte.weight"
    head_name = "lm_head.weight"
    ignored_tensors = r"(?!)"  # none

    def __init__(self, config: MptConfig, *, ops: Ops = REFERENCE) -> None:
        super().__init__()
        self.config = config
        self.transformer = MptModel(config, ops)
        self.lm_head = LMHead(config.hidden_size, config.vocab_size, scale=config.logit_scale, ops=ops)
        self.tie_weights()

    @classmethod
    def from_json(
        cls, config: Mapping[str, Any], *, rope_position_dtype: torch.dtype, ops: Ops = REFERENCE
    ) -> MptForCausalLM:
        """A model for a config.json; raises CheckpointError as its config does."""
        return cls(MptConfig.from_json(config, rope_position_dtype=rope_position_dtype), ops=ops)

    def tie_weights(self) -> None:
        """Share the embedding with the head where the config says so; again after memory has been given to both."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight

    def forward(self, batch: ForwardBatch, kv_cache: Sequence[LayerCache]) -> Tensor:
        return self.transformer(batch, kv_cache)  # type: ignore[no-any-return]

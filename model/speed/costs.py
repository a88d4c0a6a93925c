"""What nobody can do without: bytes that a step must read, and operations that a prompt takes."""

from __future__ import annotations

from dataclasses import dataclass

from model.families.registry import CausalLM
from model.probes.streamed import streamed_parameters

DATASHEET_FLOPS = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}
"""Dense bfloat16 operations a second by the datasheets of the SXM cards, by a part of their names (NVIDIA H100 and H200
Tensor Core GPU datasheets: 1,979 TFLOP/s with sparsity; A100: 312)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Of one model in one dtype.

    Attributes:
        weight_bytes: read by every step: all but the input embedding, of which a step reads single rows.
        kv_bytes: of the cache, a token.
        body_parameters: of the layers' matrices; head_parameters: of the output head.
        num_layers: attention_size: entries of all query heads together.
    """

    weight_bytes: int
    kv_bytes: int
    body_parameters: int
    head_parameters: int
    num_layers: int
    attention_size: int

    def step_bytes(self, *, batch: int, context: int) -> int:
        """Read by a step of `batch` answers of `context` tokens each: weights once, and all keys and values."""
        return self.weight_bytes + batch * context * self.kv_bytes

    def prompt_flops(self, num_tokens: int) -> int:
        """For a prompt whose last token's logits are wanted: two operations a weight and token, and for each earlier
        token and itself two for the score and two for the sum, an entry of the heads."""
        attention = 2 * num_tokens * (num_tokens + 1) * self.attention_size * self.num_layers
        return 2 * num_tokens * self.body_parameters + attention + 2 * self.head_parameters

    def token_flops(self, context: int) -> int:
        """For one token of an answer of `context` tokens."""
        attention = 4 * context * self.attention_size * self.num_layers
        return 2 * (self.body_parameters + self.head_parameters) + attention


def costs_of(model: CausalLM) -> Costs:
    """Those of a loaded model."""
    config, head = model.config, model.lm_head.weight
    streamed = streamed_parameters(model).total
    return Costs(
        weight_bytes=streamed * head.itemsize,
        kv_bytes=config.kv_cache_shape.bytes_per_token(head.dtype),
        body_parameters=streamed - head.numel(),
        head_parameters=head.numel(),
        num_layers=config.num_hidden_layers,
        attention_size=config.num_attention_heads * config.head_dim,
    )


def datasheet_flops(device_name: str) -> float | None:
    """`None` for a device that is not listed."""
    return next((flops for name, flops in DATASHEET_FLOPS.items() if name in device_name), None)

"""Attention as two matrix products, for training on a CPU.

torch 2.13's fused attention for CPUs takes four times as long backwards in bfloat16 (35 ms against 9 ms a layer for
16 rows of 320 tokens on two cores with AMX), which is a third of a whole training step of the bundled checkpoints.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from transformers import AttentionInterface

MATMUL_ATTENTION: Final = "matmul"


def matmul_attention(
    module: torch.nn.Module,
    query: Tensor,  # [rows, num_heads, row_length, head_dim]
    key: Tensor,  # [rows, num_key_value_heads, row_length, head_dim]
    value: Tensor,
    attention_mask: Tensor,  # [rows, 1, row_length, row_length], added to the scores
    scaling: float,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attend as Hugging Face's attention functions do; returns [rows, row_length, num_heads, head_dim]."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.matmul(query * scaling, key.transpose(-1, -2)) + attention_mask
    return torch.matmul(torch.softmax(scores, dim=-1), value).transpose(1, 2).contiguous(), None


AttentionInterface.register(MATMUL_ATTENTION, matmul_attention)

"""Random Persimmon checkpoints at small size, written by Hugging Face, and our logits for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PersimmonConfig, PersimmonForCausalLM

from model.engine.batch_builder import build_batch
from model.engine.request import Request
from model.engine.scheduler import Scheduled
from model.families.registry import CausalLM

BLOCK_SIZE = 4


def save_random_persimmon(
    folder: Path, *, seed: int = 0, shard: str | None = None, **changes: Any
) -> PersimmonForCausalLM:
    """A Hugging Face model with weights large enough that logits differ by units, saved to `folder`, eager mode."""
    settings: dict[str, Any] = {
        "vocab_size": 211,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "hidden_act": "relu2",
        "rope_parameters": {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "eager",
    }
    model = PersimmonForCausalLM(PersimmonConfig(**(settings | changes))).eval()
    randomize(model, seed)
    model.save_pretrained(folder, **({} if shard is None else {"max_shard_size": shard}))
    return model


@torch.no_grad()
def randomize(model: torch.nn.Module, seed: int) -> None:
    """Weights so large that logits differ by units: with the usual small ones all models agree."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() == 1 else 0.2))
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)


@torch.inference_mode()
def our_logits(model: CausalLM, token_ids: list[int], *, chunks: tuple[int, ...] = ()) -> torch.Tensor:
    """Logits of all positions, [num_tokens, vocab_size] float32, the prompt cut into chunks of the given sizes."""
    num_blocks = len(token_ids) // BLOCK_SIZE + 2
    device, dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
    cache = model.config.kv_cache_shape.allocate(
        num_blocks=num_blocks, block_size=BLOCK_SIZE, dtype=dtype, device=device
    )
    request = Request(
        request_id=0,
        token_ids=token_ids,
        num_prompt_tokens=len(token_ids),
        deliver=lambda event: None,
        arrival_s=0.0,
        targets=tuple(token_ids),  # a row at every position
        block_table=list(reversed(range(1, num_blocks))),  # any order of blocks must do
    )
    rows = []
    for size in chunks or (len(token_ids),):
        batch, _ = build_batch([Scheduled(request, size)], block_size=BLOCK_SIZE, device=device)
        rows.append(model.lm_head(model(batch, cache)))
        request.num_computed_tokens += size
    return torch.cat(rows)

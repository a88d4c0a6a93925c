"""Hugging Face's side: the same folder in transformers, on the CPU, with eager attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


class HuggingFace:
    """A checkpoint folder as transformers runs it.

    Ask for logits before greedy tokens: dynamic rotary frequencies stay those of the longest sequence a model has seen.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", local_files_only=True
        ).eval()
        self._model.generation_config.eos_token_id = None  # go on past the end of a document

    @torch.inference_mode()
    def logits(self, token_ids: list[int]) -> Tensor:
        """[num_tokens, vocab_size] float32."""
        logits: Tensor = self._model(torch.tensor([token_ids])).logits[0].float()
        return logits

    @torch.inference_mode()
    def greedy(self, token_ids: list[int], *, count: int) -> list[int]:
        """`count` tokens of `generate`, as the checkpoint's configuration sets it up but for the end of a document."""
        prompt = torch.tensor([token_ids])
        answer = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
        generated: list[int] = answer[0, len(token_ids) :].tolist()
        return generated

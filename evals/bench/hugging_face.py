"""One run of Hugging Face `generate`: fp32, greedy, static batches padded on the left.

A batch runs until its longest answer is done; what the others have too much is thrown away and not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PersimmonForCausalLM

from evals.bench.runs import Answers, Run, timed
from evals.bench.settings import Choices, Setting
from evals.bench.tuning import tune
from evals.bench.workloads import DecodeRequest, DecodeWork

NAME = "Hugging Face generate"
PADDING = 0

ORDERS: dict[str | None, Callable[[DecodeRequest], int]] = {
    "longest answers together": lambda request: -request.max_tokens,
    "longest prompts together": lambda request: -len(request.prompt_token_ids),
    "as they come": lambda request: 0,
}


def load(checkpoint: str, *, attention: str) -> Any:
    """The model, ready to generate past the end of a document."""
    model: Any = PersimmonForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation=attention)
    model.generation_config.eos_token_id = None
    touch(model)
    return model.eval()


def touch(model: Any) -> None:
    """Read all weights once: pages that a file still holds would count as the work's memory, not as the model's."""
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.sum()


def run(checkpoint: str, work: DecodeWork, setting: Setting) -> Run:
    """Load, warm up, and time the work."""
    model = load(checkpoint, attention=setting.attention)
    return timed(lambda: generate(model, work.warm_up, setting), lambda: generate(model, work.requests, setting))


def tried(checkpoint: str, work: DecodeWork, choices: Choices) -> dict[Setting, float]:
    """Every setting's time, in one process."""
    return tune(lambda setting: run(checkpoint, work, setting).seconds, choices)


def generate(model: Any, requests: Sequence[DecodeRequest], setting: Setting) -> Answers:
    """All answers, batch by batch."""
    positions = sorted(range(len(requests)), key=lambda i: ORDERS[setting.order](requests[i]))
    answers: dict[int, tuple[int, ...]] = {}
    for start in range(0, len(positions), setting.batch_size):
        batch = positions[start : start + setting.batch_size]
        width = max(len(requests[i].prompt_token_ids) for i in batch)
        token_ids = torch.full((len(batch), width), PADDING)
        mask = torch.zeros_like(token_ids)
        for row, i in enumerate(batch):
            prompt = torch.tensor(requests[i].prompt_token_ids)
            token_ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        generated = model.generate(
            input_ids=token_ids,
            attention_mask=mask,
            max_new_tokens=max(requests[i].max_tokens for i in batch),
            do_sample=False,
            pad_token_id=PADDING,
        )
        for row, i in enumerate(batch):
            answers[i] = tuple(generated[row, width : width + requests[i].max_tokens].tolist())
    return Answers(token_ids=tuple(answers[i] for i in range(len(requests))))

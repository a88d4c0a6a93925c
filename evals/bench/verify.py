"""Hugging Face as the judge where two greedy answers differ: one request at a time, without padding or cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoTokenizer

from evals.bench.hugging_face import load


def shortfalls(checkpoint: str, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """For each prompt and answer, how far the answer is from greedy.

    Returns:
        The largest difference, over the answer's tokens, of the highest logit at its place and its own: 0 if every
        token is the most probable one after those before it.
    """
    model = load(checkpoint, attention="eager")
    found = []
    with torch.inference_mode():
        for prompt, answer in pairs:
            token_ids = torch.tensor([[*prompt, *answer]])
            logits = model(token_ids[:, :-1]).logits[0, len(prompt) - 1 :]  # [len(answer), vocab_size]
            own = logits.gather(1, token_ids[0, len(prompt) :, None])[:, 0]
            found.append(float((logits.amax(dim=1) - own).max()))
    return found


def prompt_ids(checkpoint: str, prompts: Sequence[str], *, room: int) -> list[list[int]]:
    """Prompts as lm-eval's hf backend sends them: at most `room` tokens, cut from the left."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    return [tokenizer.encode(prompt, add_special_tokens=False)[-room:] for prompt in prompts]


def prefix_id(checkpoint: str) -> int:
    """The token before an empty context, as lm-eval's hf backend has it: BOS, else the end of a document."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    return int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)


def texts(checkpoint: str, answers: Sequence[Sequence[int]]) -> list[str]:
    """Answers as Hugging Face's tokenizer writes them: as documents of their own, without special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    return [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]

"""One case, computed: our logits and answers against the oracle's, from the same folder, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint.load import load_model
from model.parity.cases import Case, Oracle
from model.parity.hugging_face import HuggingFace
from model.parity.mpt_definition import MptDefinition
from model.parity.our_forward import our_greedy, our_logits

LOW_PRECISION = (torch.bfloat16, torch.float16)
GREEDY_TOKENS = 16
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Error:
    """Absolute differences from the oracle's logits, in the logits' own unit (nats)."""

    largest: float
    mean: float

    @classmethod
    def between(cls, logits: Tensor, expected: Tensor) -> Error:
        """Over [num_tokens, vocab_size] of both."""
        difference = (logits.double() - expected.double()).abs()
        return cls(float(difference.max()), float(difference.mean()))


@dataclass(frozen=True, slots=True)
class LowPrecision:
    """Errors of one low-precision dtype against the oracle in float32 (the definition: float64).

    `theirs` is Hugging Face's own in that dtype; `None` where Hugging Face is not the oracle.
    """

    ours: Error
    theirs: Error | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A row of the page.

    Attributes:
        std: of all the oracle's logits, for scale.
        float32: our error.
        hugging_face: Hugging Face's error in float32 where it is not the oracle; `None` where it is, or where it
            cannot run the checkpoint.
        low_precision: by dtype, for each of LOW_PRECISION.
        num_equal: greedy tokens equal before the first that differs, of GREEDY_TOKENS, in float32.
    """

    case: Case
    std: float
    float32: Error
    hugging_face: Error | None
    low_precision: dict[torch.dtype, LowPrecision]
    num_equal: int


def compare(case: Case, scratch: Path) -> Comparison:
    """Load, run and compare; `scratch` is an empty folder for a random checkpoint.

    Raises:
        CheckpointError: our loader refuses the checkpoint.
    """
    folder = case.checkpoint(scratch)
    prompt = case.prompt(folder)
    is_right = case.oracle is Oracle.HUGGING_FACE
    oracle = HuggingFace(folder, dtype=torch.float32) if is_right else MptDefinition(folder)
    expected = oracle.logits(prompt)
    model = load_model(folder, device=CPU, dtype=torch.float32)
    low_precision = {}
    for dtype in LOW_PRECISION:
        ours = our_logits(load_model(folder, device=CPU, dtype=dtype), prompt)
        theirs = HuggingFace(folder, dtype=dtype).logits(prompt) if is_right else None
        low_precision[dtype] = LowPrecision(
            Error.between(ours, expected), None if theirs is None else Error.between(theirs, expected)
        )
    return Comparison(
        case=case,
        std=float(expected.double().std()),
        float32=Error.between(our_logits(model, prompt), expected),
        hugging_face=None if is_right else _hugging_face_error(folder, prompt, expected),
        low_precision=low_precision,
        num_equal=_common_start(
            our_greedy(model, prompt, count=GREEDY_TOKENS), oracle.greedy(prompt, count=GREEDY_TOKENS)
        ),
    )


def _hugging_face_error(folder: Path, prompt: list[int], expected: Tensor) -> Error | None:
    try:
        logits = HuggingFace(folder, dtype=torch.float32).logits(prompt)
    except Exception:  # whatever keeps it from running is what the page reports
        return None
    return Error.between(logits, expected)


def _common_start(ours: list[int], theirs: list[int]) -> int:
    """How many tokens are equal before the first that is not."""
    for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our != their:
            return index
    return len(ours)

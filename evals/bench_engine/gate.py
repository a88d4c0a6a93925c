"""Whether results are right: the condition of every figure.

Nothing in bfloat16 is exact, so rounding is measured: the same weights in float32, computed by the definition, are the
truth, and what the definition in bfloat16 differs from it is the measure. Ours, and Hugging Face's, must not differ
more than `LOGITS_FACTOR` times that. A greedy token must be the truth's most probable one, or fall short of it by no
more than `TIE_FACTOR` times the deviation of our logits from the truth's: a tie to the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from evals.bench_engine.bench import GateFailed

LOGITS_FACTOR = 1.5
TIE_FACTOR = 6.0
"""The deviation is a standard deviation, and both tokens have one: 6 are 4.2 of their difference's."""
EXACT = 1e-4  # in float32, where both differ from the truth by sums in another order


def relative_error(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Root of the sum of squared differences, over that of the truth; infinite where a number is not finite."""
    above = sum(float((one.double() - other.double()).square().sum()) for one, other in zip(found, truth, strict=True))
    below = sum(float(other.double().square().sum()) for other in truth)
    error = (above / below) ** 0.5
    return error if error == error else float("inf")


def deviation(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Root mean square of the differences."""
    above = sum(float((one.double() - other.double()).square().sum()) for one, other in zip(found, truth, strict=True))
    return float((above / sum(one.numel() for one in truth)) ** 0.5)


def check_logits(errors: Mapping[str, float], *, measure: float) -> None:
    """Refuse logits that are further from the truth than rounding explains.

    Args:
        errors: relative ones, by whose they are. measure: the definition's, in the same dtype.

    Raises:
        GateFailed: one is.
    """
    bound = LOGITS_FACTOR * measure + EXACT
    for name, error in errors.items():
        if not error <= bound:
            raise GateFailed(f"{name}: logits differ from float32's by {error:.3g}, and {bound:.3g} is allowed")


def shortfall(logits: Tensor, token_ids: Sequence[int]) -> float:
    """How far below the most probable token the worst of these is: logits [num_tokens, vocab_size]."""
    chosen = logits.gather(1, torch.tensor(token_ids, device=logits.device)[:, None])[:, 0]
    return float((logits.amax(dim=1) - chosen).max())


def check_tokens(shortfalls: Mapping[str, float], *, sigma: float) -> None:
    """Refuse tokens that are not greedy to within a tie.

    Args:
        shortfalls: the worst, by the way of computing. sigma: deviation of our logits.

    Raises:
        GateFailed: one is more than a tie.
    """
    bound = TIE_FACTOR * sigma + EXACT
    for name, worst in shortfalls.items():
        if not worst <= bound:
            raise GateFailed(
                f"{name}: a token is {worst:.3g} below the most probable one of float32, and {bound:.3g} is a tie"
            )


def num_differing(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> int:
    """Answers that are not the same tokens."""
    return sum(tuple(a) != tuple(b) for a, b in zip(one, other, strict=True))

"""The least time a piece of work could take on this machine, whoever does it.

Counted are the multiplications with weights (two operations a weight and token, the head only where the next token is
wanted) with every distinct prefix computed once, and the weights' bytes once a step. Attention and the KV cache's bytes
are left out, so the true limit is a little higher.
"""

from __future__ import annotations

from collections.abc import Sequence

from evals.bench.checkpoints import Shape
from evals.bench.prefixes import distinct
from evals.bench.results import Limit, Roofs, rounded
from evals.bench.workloads import Work

BYTES_PER_PARAMETER = 4  # fp32


def step_bytes(shape: Shape) -> int:
    """Bytes of weights that every step reads: all but the input embedding."""
    return (shape.body + shape.head) * BYTES_PER_PARAMETER


def limit(work: Work, shape: Shape, roofs: Roofs, *, answer_lengths: Sequence[int]) -> Limit:
    """The limit of `work`.

    Args:
        roofs: its bytes a second are those of :func:`step_bytes` bytes.
        answer_lengths: generated tokens of each request; empty where nothing is generated.
    """
    once = distinct(work.readings)
    # The prompt's last row gives the first token, so the last token generated is never read.
    more = sum(answer_lengths) - len(answer_lengths)
    tokens, rows = once.prefixes + more, once.rows + more
    steps = max(answer_lengths, default=1)
    return Limit(
        bytes_s=rounded(steps * step_bytes(shape) / roofs.bytes_per_s),
        operations_s=rounded(2 * (tokens * shape.body + rows * shape.head) / roofs.operations_per_s),
        bytes_per_s=roofs.bytes_per_s,
    )

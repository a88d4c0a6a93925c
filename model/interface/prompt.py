"""What a request may continue: text, token ids, or token ids with vectors in some places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from model.interface.errors import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FLOAT32_MAX = (2 - 2**-23) * 2.0**127


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EmbeddedPrompt:
    """A prompt in which vectors stand in place of some tokens' embeddings, such as Fuyu's image patches.

    Attributes:
        token_ids: every place's token; where a vector stands, any id (a placeholder's, usually).
        positions: places of the vectors in token_ids, rising.
        vectors: [len(positions), hidden_size], finite; used in the model's dtype.
    """

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.positions, self.positions[1:], strict=False))
        inside = all(0 <= position < len(self.token_ids) for position in self.positions)
        if not (self.positions and rising and inside):
            raise InvalidRequest(
                f"positions={self.positions!r} is not allowed: it must be rising places in a prompt of "
                f"{len(self.token_ids)} tokens"
            )
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.positions):
            raise InvalidRequest(
                f"vectors of shape {self.vectors.shape} came with {len(self.positions)} positions: give one row each"
            )
        if not bool((abs(self.vectors) <= FLOAT32_MAX).all()):
            raise InvalidRequest("vectors holds numbers that are not finite in float32: give finite ones")


Prompt: TypeAlias = str | Sequence[int] | EmbeddedPrompt

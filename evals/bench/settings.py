"""How a peer can be run: what is tried to find its fastest setting."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_BATCH = 8
SMALL_BLOCK = 32  # tokens; vLLM's CPU build wants a multiple of it (vllm/platforms/cpu.py)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One way to run a peer.

    Attributes:
        attention: Hugging Face's `attn_implementation`.
        batch_size: requests in a batch.
        order: of the requests before they are cut into batches (`hugging_face.ORDERS`); lm-eval sorts by itself.
    """

    attention: str
    batch_size: int
    order: str | None = None

    def __str__(self) -> str:
        parts = [self.attention, f"batch {self.batch_size}"]
        if self.order is not None and self.batch_size > 1:
            parts.append(self.order)
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What may be combined to a :class:`Setting`; the first order and attention are the start of the search."""

    attentions: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    orders: tuple[str | None, ...] = (None,)

    def start(self) -> Setting:
        """Where the search begins: a middling batch."""
        batch_size = DEFAULT_BATCH if DEFAULT_BATCH in self.batch_sizes else self.batch_sizes[-1]
        return Setting(attention=self.attentions[0], batch_size=batch_size, order=self.orders[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmSetting:
    """One way to run vLLM.

    Attributes:
        compiled: with torch.compile, vLLM's default; else `enforce_eager`.
        sharing: whether prefixes of few tokens are shared: the prefix cache has blocks of `SMALL_BLOCK` tokens, not of
            128, and is read in scoring too. vLLM by itself does neither on a CPU.
    """

    compiled: bool
    sharing: bool = False

    def __str__(self) -> str:
        return ("compiled" if self.compiled else "eager") + (f", blocks of {SMALL_BLOCK}" if self.sharing else "")

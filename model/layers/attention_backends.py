"""Which attention runs: chosen once from what can be imported and what the model needs, with the reasons.

A step's sequences play three parts. `decode`: at most `SHORT_QUERY` new tokens, an answer being written. `prompt`:
more, and nothing cached. `continued`: more, after cached tokens (a later chunk, a shared prefix). For prompts the order
is flash-attn, torch, our Triton kernel, SDPA over gathered pages. Reading through pages decides the other two: packed
kernels would first copy all cached keys, which for a question after a long shared prefix costs more than attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch

from kernels.varlen_attention import (
    HEAD_DIM_MULTIPLE,
    LARGEST_HEAD_DIM,
    PAGE_MULTIPLE,
    missing_flash_attn,
    missing_torch_varlen,
)
from model.interface import InvalidRequest

Part = Literal["prompt", "continued", "decode"]

DESCRIPTIONS = {
    "flash-attn": "flash-attn",
    "torch-varlen": "torch's packed flash attention",
    "triton": "Triton paged attention",
    "sdpa": "torch scaled_dot_product_attention over gathered KV pages",
    "triton-fixed": "Triton paged attention with fixed tiles",
    "numba": "Numba paged attention",
}
NAMES = ("flash-attn", "torch-varlen", "triton", "sdpa")
"""In the order of preference for prompts. `triton-fixed` is chosen by `deterministic` alone, `numba` comes with a CPU's
kernels."""
OLDEST_CAPABILITY = (8, 0)  # flash-attn 2's and bfloat16 tensor cores'
_PAGED_FIRST = ("triton", "flash-attn", "torch-varlen", "sdpa")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionNeeds:
    """What the model and the machine are. `capability`: of the GPU, `None` on a CPU; `block_size` in tokens."""

    device_type: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    num_heads: int
    num_kv_heads: int
    head_dim: int
    uses_alibi: bool
    block_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionBackend:
    """The name of what runs each part, and why those before it in the order do not: sentences by name. `few`: what
    takes sequences with few new tokens from all of them, if anything does."""

    prompt: str
    continued: str
    decode: str
    not_used: Mapping[str, str]
    few: str | None = None

    @property
    def description(self) -> str:
        """Such as `flash-attn for prompts, Triton paged attention for the rest`."""
        prompt, continued, decode = (DESCRIPTIONS[name] for name in (self.prompt, self.continued, self.decode))
        if self.few is not None and prompt == continued == decode:
            return f"{DESCRIPTIONS[self.few]} where new tokens are few, {prompt} where they are many"
        if prompt == continued == decode:
            return prompt
        if continued == decode:
            return f"{prompt} for prompts, {decode} after cached tokens and for answers"
        if prompt == continued:
            return f"{prompt} for prompts, {decode} for answers"
        return f"{prompt} for prompts, {continued} for prompts after cached tokens, {decode} for answers"

    @property
    def can_capture_decode(self) -> bool:
        """Whether a CUDA graph may hold decoding: the others ask the device or the host for lengths."""
        return self.decode in ("triton", "triton-fixed")


DETERMINISTIC = AttentionBackend(
    prompt="triton-fixed",
    continued="triton-fixed",
    decode="triton-fixed",
    not_used=dict.fromkeys(("flash-attn", "torch-varlen", "triton"), "its sums depend on what else is in the batch"),
)
"""What runs where results must be the same bits in any batch."""


def find_missing(needs: AttentionNeeds) -> dict[str, str]:
    """Why a library cannot be used, by back-end; those that can are absent. Nothing is imported without a GPU."""
    if needs.device_type != "cuda":
        return {}
    reasons = {
        "flash-attn": missing_flash_attn(),
        "torch-varlen": missing_torch_varlen(grouped=needs.num_heads != needs.num_kv_heads),
        "triton": None if find_spec("triton") else "Triton is not installed",
    }
    return {name: reason for name, reason in reasons.items() if reason is not None}


def why_not(name: str, part: Part, needs: AttentionNeeds, missing: Mapping[str, str]) -> str | None:
    """Why a back-end cannot run a part; `None` if it can."""
    if name == "sdpa":
        return None
    if needs.device_type != "cuda":
        return "it needs an NVIDIA GPU"
    if name in missing:
        return missing[name]
    if needs.capability is None or needs.capability < OLDEST_CAPABILITY:
        found = "none" if needs.capability is None else ".".join(map(str, needs.capability))
        return (
            f"it needs a GPU of compute capability {'.'.join(map(str, OLDEST_CAPABILITY))}, and this one's is {found}"
        )
    if needs.head_dim > LARGEST_HEAD_DIM:
        return f"it takes heads of at most {LARGEST_HEAD_DIM} entries, and these have {needs.head_dim}"
    if name == "triton":
        return None
    if needs.dtype not in (torch.bfloat16, torch.float16):
        return f"it takes bfloat16 and float16, not {str(needs.dtype).removeprefix('torch.')}"
    if needs.head_dim % HEAD_DIM_MULTIPLE:
        return f"it takes heads of a multiple of {HEAD_DIM_MULTIPLE} entries, and these have {needs.head_dim}"
    if name == "torch-varlen":
        if needs.uses_alibi:
            return "it has no ALiBi"
        return "it would copy all cached keys for every token" if part == "decode" else None
    if part == "decode" and needs.block_size % PAGE_MULTIPLE:
        return f"its pages are multiples of {PAGE_MULTIPLE} tokens, and block_size is {needs.block_size}"
    return None


def choose_attention(needs: AttentionNeeds, missing: Mapping[str, str], *, wanted: str = "auto") -> AttentionBackend:
    """The back-end of each part.

    Args:
        missing: as `find_missing` gives it.
        wanted: `auto`; a name, for prompts and wherever else it can run; or two as `PROMPTS/ANSWERS`.

    Raises:
        InvalidRequest: no such name, or one that cannot run here.
    """
    names = wanted.split("/")
    if wanted != "auto" and (len(names) > 2 or not set(names) <= set(NAMES)):
        raise InvalidRequest(
            f"attention_backend={wanted!r} is not allowed: use auto, one of {', '.join(NAMES)}, or two of them as "
            "PROMPTS/ANSWERS"
        )

    def first(part: Part, order: tuple[str, ...]) -> str:
        return next(name for name in order if why_not(name, part, needs, missing) is None)

    paged = ("flash-attn",) if needs.block_size % PAGE_MULTIPLE == 0 else ()
    if wanted == "auto":
        prompt = first("prompt", NAMES)
        continued = first("continued", (*paged, *_PAGED_FIRST))
        decode = first("decode", _PAGED_FIRST)
    else:
        asked: list[tuple[str, Part]] = [(names[0], "prompt")]
        if len(names) == 2:
            asked.append((names[1], "decode"))
        for name, part in asked:
            if reason := why_not(name, part, needs, missing):
                raise InvalidRequest(f"attention_backend={wanted!r} is not allowed: {name} cannot be used, {reason}")
        prompt = continued = names[0]
        decode = names[1] if len(names) == 2 else first("decode", (names[0], *_PAGED_FIRST))

    not_used: dict[str, str] = {}
    for name in NAMES[: NAMES.index(prompt)]:
        if name not in (continued, decode):
            not_used[name] = why_not(name, "prompt", needs, missing) or f"{wanted} was asked for"
    if decode != "triton" and "triton" not in (prompt, continued, *not_used):
        not_used["triton"] = why_not("triton", "decode", needs, missing) or f"{wanted} was asked for"
    if wanted == prompt and decode != prompt:
        not_used[f"{prompt} for answers"] = why_not(prompt, "decode", needs, missing) or ""
    return AttentionBackend(prompt=prompt, continued=continued, decode=decode, not_used=not_used)

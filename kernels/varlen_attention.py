"""Attention of packed sequences by others' kernels: the flash-attn package's, and torch's copy of them.

Both take new tokens packed end to end; a query stands at the end of its sequence's keys. Neither exists on a CPU.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor

PAGE_MULTIPLE = 256
"""Tokens: flash-attn's paged kernels take pages of a multiple of it (csrc/flash_attn/flash_api.cpp, mha_varlen_fwd)."""
HEAD_DIM_MULTIPLE, LARGEST_HEAD_DIM = 8, 256  # same file


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSequences:
    """Where the sequences of a call are, as these kernels want it.

    Attributes:
        query_starts: [num_seqs + 1] int32, from 0; max_query_len: most queries of one.
        key_starts: [num_seqs + 1] int32 running sum of their lengths; max_seq_len: the longest.
        slots: [total length] int64, of all keys in the cache, to be gathered; `None` with pages.
        block_tables: [num_seqs, max_blocks] int32, for keys in pages; `None` without.
    """

    query_starts: Tensor
    key_starts: Tensor
    max_query_len: int
    max_seq_len: int
    slots: Tensor | None = None
    block_tables: Tensor | None = None

    def keys_and_values(self, key_cache: Tensor, value_cache: Tensor) -> tuple[Tensor, Tensor]:
        """The caches themselves with pages, else copies of the sequences' entries, [total length, heads, head_dim]."""
        if self.slots is None:
            return key_cache, value_cache
        return key_cache.flatten(0, 1)[self.slots], value_cache.flatten(0, 1)[self.slots]


def missing_flash_attn() -> str | None:
    """Why the flash-attn package cannot be used here; `None` if it can."""
    try:
        from flash_attn import flash_attn_varlen_func
    except Exception as error:  # one built for another torch fails in ways of its own while its library is loaded
        lines = str(error).splitlines()
        return f"it cannot be imported ({type(error).__name__}: {lines[0] if lines else ''})"
    lacking = {"alibi_slopes", "block_table"} - set(inspect.signature(flash_attn_varlen_func).parameters)
    return f"this version is too old: it has no {' and no '.join(sorted(lacking))}" if lacking else None


def missing_torch_varlen(*, grouped: bool) -> str | None:
    """Why torch's variable-length attention cannot be used here; `None` if it can.

    Args:
        grouped: whether query heads share key heads.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return "this version of torch does not have it"
    needed = {"scale", "window_size"} | ({"enable_gqa"} if grouped else set())
    lacking = needed - set(inspect.signature(varlen_attn).parameters)
    return f"this version of torch has it without {' and '.join(sorted(lacking))}" if lacking else None


def flash_attn_varlen(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    packed: PackedSequences,
    scale: float,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """As `paged_attention_reference`, by the flash-attn package; bfloat16 or float16.

    Args:
        query: [num_tokens, num_heads, head_dim], of the packed sequences alone.
        key_cache, value_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        alibi_slopes: [num_heads] float32.
    """
    from flash_attn import flash_attn_varlen_func

    key, value = packed.keys_and_values(key_cache, value_cache)
    attended: Tensor = flash_attn_varlen_func(
        query,
        key,
        value,
        cu_seqlens_q=packed.query_starts,
        cu_seqlens_k=packed.key_starts,
        max_seqlen_q=packed.max_query_len,
        max_seqlen_k=packed.max_seq_len,
        softmax_scale=scale,
        causal=True,
        alibi_slopes=alibi_slopes,
        block_table=packed.block_tables,
    )
    return attended


def torch_varlen(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, *, packed: PackedSequences, scale: float
) -> Tensor:
    """The same by torch, without ALiBi, and always gathered: torch's own paged path is silently wrong with the number
    of splits it chooses (pytorch#194167), and its pages would have to be of 256 tokens.

    Raises:
        ValueError: the sequences are to be read in pages.
    """
    from torch.nn.attention.varlen import varlen_attn

    if packed.slots is None:
        raise ValueError("torch's variable-length attention is given gathered keys, never pages")
    key, value = packed.keys_and_values(key_cache, value_cache)
    options: dict[str, Any] = {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}  # not in every version
    attended = varlen_attn(
        query,
        key,
        value,
        packed.query_starts,
        packed.key_starts,
        packed.max_query_len,
        packed.max_seq_len,
        scale=scale,
        window_size=(-1, 0),  # causal
        **options,
    )
    assert isinstance(attended, Tensor)  # with the log-sum-exp only where it is asked for
    return attended

"""A mixed step cut into runs, each attended by its back-end: together the reference's result."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import accumulate, pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.paged_attention import paged_attention_reference
from kernels.paged_attention_cpu import Workspace
from kernels.varlen_attention import PackedSequences, torch_varlen
from model.layers import attention_plan
from model.layers.attention import attend, why_not_capturable
from model.layers.attention_backends import AttentionBackend
from model.layers.attention_plan import SHORT_QUERY, part_of, plan_attention, plan_decoding
from model.layers.forward_batch import ForwardBatch
from model.layers.kv_cache import LayerCache

NUM_HEADS, HEAD_DIM, SCALE = 4, 16, 0.3
# (cached tokens, new tokens): answers, drafts, a chunk after cached tokens, prompts.
SORTED = [(70, 1), (33, 8), (0, 3), (21, 30), (5, 9), (0, 40), (0, 9)]


def backend(prompt: str, continued: str, decode: str) -> AttentionBackend:
    return AttentionBackend(prompt=prompt, continued=continued, decode=decode, not_used={})


def make(
    sequences: list[tuple[int, int]], chosen: AttentionBackend | None, *, block_size: int = 16, num_kv_heads: int = 2
) -> tuple[Tensor, LayerCache, ForwardBatch]:
    generator = torch.Generator().manual_seed(3)
    lengths = [old + new for old, new in sequences]
    widths = [-(-length // block_size) for length in lengths]
    blocks = iter((torch.randperm(sum(widths), generator=generator) + 1).tolist())
    tables = torch.tensor([[next(blocks) if place < width else 0 for place in range(max(widths))] for width in widths])
    starts = [0, *accumulate(new for _, new in sequences)]
    shape = (2, sum(widths) + 1, block_size, num_kv_heads, HEAD_DIM)
    key, value = torch.randn(shape, generator=generator)
    nothing = torch.zeros(0, dtype=torch.int64)
    batch = ForwardBatch(
        input_ids=nothing,
        positions=nothing,
        rotary_lens=nothing,
        slot_mapping=nothing,
        query_start_loc=torch.tensor(starts),
        seq_lens=torch.tensor(lengths),
        block_tables=tables,
        logits_indices=nothing,
        max_query_len=max(new for _, new in sequences),
        max_seq_len=max(lengths),
        attention_plan=None
        if chosen is None
        else plan_attention(starts, lengths, tables, block_size=block_size, backend=chosen),
    )
    query = torch.randn(starts[-1], NUM_HEADS, HEAD_DIM, generator=generator)
    return query, LayerCache(key, value, Workspace()), batch


def packed_reference(
    query: Tensor, key: Tensor, value: Tensor, query_starts: Tensor, key_starts: Tensor, slopes: Tensor | None
) -> Tensor:
    """Each packed sequence by itself, its keys as one page of their own length."""
    results = []
    for (first, last), (begin, end) in zip(pairwise(query_starts.tolist()), pairwise(key_starts.tolist()), strict=True):
        results.append(
            paged_attention_reference(
                query[first:last],
                key[None, begin:end],
                value[None, begin:end],
                query_start_loc=torch.tensor([0, last - first]),
                seq_lens=torch.tensor([end - begin]),
                block_tables=torch.zeros(1, 1, dtype=torch.int64),
                scale=SCALE,
                alibi_slopes=slopes,
            )
        )
    return torch.cat(results)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand-ins for both libraries that compute on the CPU and keep what they were given."""
    kept: list[dict[str, Any]] = []

    def flash(query: Tensor, key: Tensor, value: Tensor, **given: Any) -> Tensor:
        kept.append(given | {"library": "flash-attn"})
        assert given["causal"] is True
        assert given["softmax_scale"] == SCALE
        assert given["cu_seqlens_q"].dtype == given["cu_seqlens_k"].dtype == torch.int32
        assert given["max_seqlen_q"] == int(given["cu_seqlens_q"].diff().max())
        assert given["max_seqlen_k"] == int(given["cu_seqlens_k"].diff().max())
        if given["block_table"] is None:
            starts = given["cu_seqlens_q"], given["cu_seqlens_k"]
            return packed_reference(query, key, value, *starts, given["alibi_slopes"])
        assert given["block_table"].dtype == torch.int32
        return paged_attention_reference(
            query,
            key,
            value,
            query_start_loc=given["cu_seqlens_q"].long(),
            seq_lens=given["cu_seqlens_k"].long().diff(),
            block_tables=given["block_table"].long(),
            scale=SCALE,
            alibi_slopes=given["alibi_slopes"],
        )

    def varlen(
        query: Tensor, key: Tensor, value: Tensor, starts: Tensor, keys: Tensor, max_q: int, max_k: int, **given: Any
    ) -> Tensor:
        kept.append(given | {"library": "torch-varlen", "max": (max_q, max_k)})
        assert given["scale"] == SCALE
        assert given["window_size"] == (-1, 0)
        assert given.get("enable_gqa", False) == (query.shape[1] != key.shape[1])
        return packed_reference(query, key, value, starts, keys, None)

    package, module = ModuleType("flash_attn"), ModuleType("torch.nn.attention.varlen")
    package.flash_attn_varlen_func = flash  # type: ignore[attr-defined]
    module.varlen_attn = varlen  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
    return kept


@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize("block_size", [16, 256])
@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("sequences", [SORTED, SORTED[::-1], SORTED[1::2] + SORTED[::2]], ids=["sorted", "back", "any"])
def test_mixed_steps(
    sequences: list[tuple[int, int]], alibi: bool, block_size: int, num_kv_heads: int, calls: list[dict[str, Any]]
) -> None:
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.01]) if alibi else None
    sizes = {"block_size": block_size, "num_kv_heads": num_kv_heads}
    query, cache, batch = make(sequences, None, **sizes)
    expected = attend(query, cache=cache, batch=batch, scale=SCALE, alibi_slopes=slopes)
    prompt = "flash-attn" if alibi else "torch-varlen"
    for chosen in (backend(prompt, "sdpa", "sdpa"), backend(prompt, "flash-attn", "sdpa")):
        query, cache, batch = make(sequences, chosen, **sizes)
        attended = attend(query, cache=cache, batch=batch, scale=SCALE, alibi_slopes=slopes)
        torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)
    assert {call["library"] for call in calls} == {prompt, "flash-attn"}
    for call in calls:  # torch's own paged path is silently wrong
        if call["library"] == "torch-varlen":
            assert not call.keys() & {"block_table", "seqused_k", "num_splits"}
        else:
            assert (call["block_table"] is not None) == (block_size == 256)


def test_sorted_steps_need_one_run_for_each_back_end() -> None:
    plan = make(SORTED, backend("torch-varlen", "triton", "triton"))[2].attention_plan
    assert plan is not None
    found = [(run.backend, run.sequences, run.rows, run.max_query_len, run.max_seq_len) for run in plan.runs]
    assert found == [
        ("triton", slice(0, 3), slice(0, 12), 8, 71),
        ("triton", slice(3, 5), slice(12, 51), 30, 51),  # tiles for many new tokens
        ("torch-varlen", slice(5, 7), slice(51, 100), 40, 40),
    ]
    assert [part_of(new, old + new) for old, new in SORTED] == [0, 0, 0, 1, 1, 2, 2]


def test_few_tokens_are_gathered_at_once(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_plan, "MOST_GATHERED", 50)
    sequences = [(21, 10), (5, 9), (0, 60), (0, 20), (0, 30), (0, 9)]
    query, cache, batch = make(sequences, backend("torch-varlen", "torch-varlen", "sdpa"))
    assert batch.attention_plan is not None
    assert [run.sequences for run in batch.attention_plan.runs] == [
        slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6),
    ]  # fmt: skip
    expected = attend(query, cache=cache, batch=make(sequences, None)[2], scale=SCALE)
    torch.testing.assert_close(attend(query, cache=cache, batch=batch, scale=SCALE), expected, atol=1e-5, rtol=1e-5)


def test_torch_is_never_given_pages() -> None:
    starts = torch.tensor([0, 9], dtype=torch.int32)
    tables = torch.zeros(1, 1, dtype=torch.int32)
    packed = PackedSequences(
        query_starts=starts, key_starts=starts, max_query_len=9, max_seq_len=9, block_tables=tables
    )
    cache = torch.zeros(1, 256, 2, HEAD_DIM)
    with pytest.raises(ValueError, match="never pages"):
        torch_varlen(torch.zeros(9, 2, HEAD_DIM), cache, cache, packed=packed, scale=SCALE)


def test_packed_attention_of_torch_refuses_alibi(calls: list[dict[str, Any]]) -> None:
    query, cache, batch = make([(0, 9)], backend("torch-varlen", "sdpa", "sdpa"))
    with pytest.raises(ValueError, match="no ALiBi"):
        attend(query, cache=cache, batch=batch, scale=SCALE, alibi_slopes=torch.ones(NUM_HEADS))
    assert calls == []


def test_our_kernel_takes_its_part() -> None:
    kernel = pytest.importorskip("kernels.gpu.paged_attention", reason="Triton is not installed")
    if not kernel.triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is set to something other than 1")
    assert kernel.SHORT_QUERY == SHORT_QUERY
    sequences = [(20, 1), (3, 2), (18, 12), (0, 10)]
    query, cache, batch = make(sequences, backend("sdpa", "triton", "triton"))
    expected = attend(query, cache=cache, batch=make(sequences, None)[2], scale=SCALE)
    torch.testing.assert_close(attend(query, cache=cache, batch=batch, scale=SCALE), expected, atol=1e-5, rtol=1e-5)


def test_padding_is_zero() -> None:
    query, cache, batch = make(SORTED, backend("sdpa", "sdpa", "sdpa"))
    padded = torch.cat((query, torch.full((3, NUM_HEADS, HEAD_DIM), float("nan"))))
    for each in (batch, make(SORTED, None)[2]):
        attended = attend(padded, cache=cache, batch=each, scale=SCALE)
        assert torch.equal(attended[len(query) :], torch.zeros(3, NUM_HEADS, HEAD_DIM))
        torch.testing.assert_close(
            attended[: len(query)], attend(query, cache=cache, batch=each, scale=SCALE), atol=1e-6, rtol=0
        )


def test_a_plan_for_any_step_of_decoding() -> None:
    chosen = backend("sdpa", "sdpa", "triton")
    (run,) = plan_decoding(4, 4096, backend=chosen).runs
    (exact,) = plan_attention([0, 1, 2, 3, 4], [9, 5, 1, 7], torch.ones(4, 1), block_size=16, backend=chosen).runs
    assert run == replace(exact, max_seq_len=4096)
    assert why_not_capturable(chosen) is None
    assert why_not_capturable(None) == why_not_capturable(backend("triton", "triton", "sdpa"))
    assert "asks the host" in str(why_not_capturable(None))

"""Which attention back-end is chosen, and the reasons given, with libraries that are there or not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from kernels.varlen_attention import missing_flash_attn, missing_torch_varlen
from model.interface import InvalidRequest
from model.layers.attention_backends import (
    DESCRIPTIONS,
    AttentionNeeds,
    choose_attention,
    find_missing,
)

PERSIMMON = AttentionNeeds(
    device_type="cuda",
    capability=(9, 0),
    dtype=torch.bfloat16,
    num_heads=64,
    num_kv_heads=64,
    head_dim=64,
    uses_alibi=False,
    block_size=16,
)
MPT = replace(PERSIMMON, num_heads=32, num_kv_heads=32, head_dim=128, uses_alibi=True)
NO_FLASH = {"flash-attn": "it cannot be imported (ModuleNotFoundError: No module named 'flash_attn')"}
NOTHING = {name: f"no {name} here" for name in ("flash-attn", "torch-varlen", "triton")}


def parts(needs: AttentionNeeds, missing: Mapping[str, str], wanted: str = "auto") -> tuple[str, str, str]:
    backend = choose_attention(needs, missing, wanted=wanted)
    return backend.prompt, backend.continued, backend.decode


@pytest.mark.parametrize(
    ("needs", "missing", "expected"),
    [
        (PERSIMMON, {}, ("flash-attn", "triton", "triton")),
        (MPT, {}, ("flash-attn", "triton", "triton")),
        (replace(PERSIMMON, block_size=256), {}, ("flash-attn", "flash-attn", "triton")),
        (PERSIMMON, NO_FLASH, ("torch-varlen", "triton", "triton")),
        (MPT, NO_FLASH, ("triton", "triton", "triton")),
        (replace(PERSIMMON, dtype=torch.float32), {}, ("triton", "triton", "triton")),
        (replace(PERSIMMON, head_dim=20), {}, ("triton", "triton", "triton")),
        (replace(PERSIMMON, head_dim=512), {}, ("sdpa", "sdpa", "sdpa")),
        (replace(PERSIMMON, capability=(7, 5)), {}, ("sdpa", "sdpa", "sdpa")),
        (PERSIMMON, {"triton": "Triton is not installed"}, ("flash-attn", "flash-attn", "sdpa")),
        (PERSIMMON, NO_FLASH | {"triton": "none"}, ("torch-varlen", "torch-varlen", "sdpa")),
        (replace(PERSIMMON, block_size=512), {"triton": "none"}, ("flash-attn", "flash-attn", "flash-attn")),
        (PERSIMMON, NOTHING, ("sdpa", "sdpa", "sdpa")),
        (replace(PERSIMMON, device_type="cpu", capability=None), {}, ("sdpa", "sdpa", "sdpa")),
    ],
)
def test_the_order(needs: AttentionNeeds, missing: dict[str, str], expected: tuple[str, str, str]) -> None:
    assert parts(needs, missing) == expected
    assert choose_attention(needs, missing).can_capture_decode == (expected[2] == "triton")


def test_every_rung_above_has_its_reason() -> None:
    assert choose_attention(PERSIMMON, {}).not_used == {}
    assert choose_attention(PERSIMMON, NO_FLASH).not_used == NO_FLASH
    assert choose_attention(MPT, NO_FLASH).not_used == NO_FLASH | {"torch-varlen": "it has no ALiBi"}
    assert choose_attention(PERSIMMON, NOTHING).not_used == NOTHING
    on_cpu = choose_attention(replace(PERSIMMON, device_type="cpu", capability=None), {})
    assert on_cpu.not_used == dict.fromkeys(NOTHING, "it needs an NVIDIA GPU")
    assert on_cpu.description == DESCRIPTIONS["sdpa"]
    old = choose_attention(replace(PERSIMMON, capability=(7, 5)), {}).not_used
    assert set(old.values()) == {"it needs a GPU of compute capability 8.0, and this one's is 7.5"}
    exact = choose_attention(replace(PERSIMMON, dtype=torch.float32), {}).not_used
    assert exact["flash-attn"] == "it takes bfloat16 and float16, not float32"


def test_asked_for_by_name() -> None:
    assert parts(PERSIMMON, {}, "triton") == ("triton", "triton", "triton")
    assert parts(PERSIMMON, {}, "sdpa") == ("sdpa", "sdpa", "sdpa")
    assert parts(PERSIMMON, {}, "torch-varlen") == ("torch-varlen", "torch-varlen", "triton")
    assert parts(PERSIMMON, {}, "flash-attn") == ("flash-attn", "flash-attn", "triton")
    paged = replace(PERSIMMON, block_size=256)
    assert parts(paged, {}, "flash-attn") == ("flash-attn", "flash-attn", "flash-attn")
    assert parts(paged, {}, "triton/flash-attn") == ("triton", "triton", "flash-attn")
    reasons = choose_attention(PERSIMMON, {}, wanted="flash-attn").not_used
    assert reasons == {"flash-attn for answers": "its pages are multiples of 256 tokens, and block_size is 16"}
    assert choose_attention(PERSIMMON, {}, wanted="triton").not_used == {
        "flash-attn": "triton was asked for",
        "torch-varlen": "triton was asked for",
    }


@pytest.mark.parametrize(
    ("wanted", "needs", "missing", "message"),
    [
        ("flash", PERSIMMON, {}, "use auto, one of flash-attn, torch-varlen, triton, sdpa"),
        ("triton/triton/triton", PERSIMMON, {}, "or two of them as PROMPTS/ANSWERS"),
        ("triton/auto", PERSIMMON, {}, "is not allowed"),
        ("flash-attn", PERSIMMON, NO_FLASH, "flash-attn cannot be used, it cannot be imported"),
        ("torch-varlen", MPT, {}, "torch-varlen cannot be used, it has no ALiBi"),
        ("triton/flash-attn", PERSIMMON, {}, "its pages are multiples of 256 tokens"),
        ("triton/torch-varlen", PERSIMMON, {}, "copy all cached keys for every token"),
        ("triton", replace(PERSIMMON, device_type="cpu", capability=None), {}, "it needs an NVIDIA GPU"),
    ],
)
def test_what_cannot_be_had_is_refused(
    wanted: str, needs: AttentionNeeds, missing: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        choose_attention(needs, missing, wanted=wanted)


def test_descriptions() -> None:
    def description(needs: AttentionNeeds, missing: Mapping[str, str], wanted: str = "auto") -> str:
        return choose_attention(needs, missing, wanted=wanted).description

    assert description(PERSIMMON, {}) == (
        "flash-attn for prompts, Triton paged attention after cached tokens and for answers"
    )
    assert description(MPT, NO_FLASH) == "Triton paged attention"
    assert description(PERSIMMON, {}, "torch-varlen") == (
        "torch's packed flash attention for prompts, Triton paged attention for answers"
    )


def test_nothing_is_imported_without_a_gpu() -> None:
    assert find_missing(replace(PERSIMMON, device_type="cpu")) == {}
    assert "flash_attn" not in sys.modules


def test_a_library_that_is_there_broken_old_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def good(query: Any, *, alibi_slopes: Any = None, block_table: Any = None) -> None: ...

    def old(query: Any, *, alibi_slopes: Any = None) -> None: ...

    class Broken(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise OSError("undefined symbol: _ZN3c105ErrorC2E\nmore")

    monkeypatch.setitem(sys.modules, "flash_attn", None)
    assert "cannot be imported" in str(missing_flash_attn())
    for function, reason in ((good, None), (old, "this version is too old: it has no block_table")):
        module = ModuleType("flash_attn")
        module.flash_attn_varlen_func = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "flash_attn", module)
        assert missing_flash_attn() == reason
    monkeypatch.setitem(sys.modules, "flash_attn", Broken("flash_attn"))
    assert missing_flash_attn() == "it cannot be imported (OSError: undefined symbol: _ZN3c105ErrorC2E)"

    def ungrouped(query: Any, *, scale: Any = None, window_size: Any = None) -> None: ...

    module = ModuleType("torch.nn.attention.varlen")
    module.varlen_attn = ungrouped  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
    assert missing_torch_varlen(grouped=False) is None
    assert missing_torch_varlen(grouped=True) == "this version of torch has it without enable_gqa"
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    assert missing_torch_varlen(grouped=False) == "this version of torch does not have it"

"""The next token of each row without sorting the vocabulary: a program a row.

Tokens are ordered by one whole number each, the logit's bits above the id's, so that no two are alike and of equal
logits lower ids come first. What top-k and top-p keep is then all from some number on. It is found digit by digit, 4
bits in a pass over the row: for each value of the digit, how many tokens (top-k) or how much probability (top-p) has
it, until a single token is left. A last pass draws among what is kept.

Sums are made in a fixed order that does not depend on other rows, and so is the noise: a row's token is the same in any
batch.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.cases import BenchCall, BenchCase, CompileCase
from kernels.sampling import NOISE_BLOCK, DrawParams, draw_reference

DIGIT_BITS = 4
LOGIT_BITS = 32
BLOCK = 1024
WIDE_BLOCK = 4096  # of the pass that every row needs: a thread has two loads of 16 bytes under way
NUM_WARPS = 16


@triton.jit
def order_of(tempered, tokens, ID_BITS: tl.constexpr):
    """A whole number of LOGIT_BITS + ID_BITS bits, larger for a larger logit and, on equal ones, for a lower id."""
    bits = (tempered + 0.0).to(tl.int32, bitcast=True)  # -0 becomes 0, which it is equal to
    bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64) + 2147483648
    return (bits << ID_BITS) + ((1 << ID_BITS) - 1 - tokens)


@triton.jit
def load_tempered(row, tokens, vocab_size, largest, temperature):
    """Logits less the largest over the temperature; -inf past the end."""
    logits = tl.load(row + tokens, mask=tokens < vocab_size, other=-float("inf"))
    return tl.math.div_rn(logits - largest, tl.zeros_like(logits) + temperature)


@triton.jit
def find_first_kept(
    row,
    vocab_size,
    largest,
    temperature,
    least,  # tokens below it do not count
    limit,  # a token is kept if less than this stands above it
    BY_MASS: tl.constexpr,
    ID_BITS: tl.constexpr,
    NUM_DIGITS: tl.constexpr,
    DIGIT_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The lowest order that is kept, or a lower one that no token lies between."""
    digits = tl.arange(0, 1 << DIGIT_BITS)
    prefix = tl.zeros((), tl.int64)
    above = tl.zeros((), tl.float32)
    left = tl.full((), 2.0, tl.float32)  # tokens that begin with the prefix
    shift = tl.full((), NUM_DIGITS * DIGIT_BITS, tl.int32)
    while (shift > 0) & (left > 1):
        shift -= DIGIT_BITS
        amounts = tl.zeros((1 << DIGIT_BITS,), tl.float32)
        numbers = tl.zeros((1 << DIGIT_BITS,), tl.float32)
        for start in range(0, vocab_size, BLOCK):
            tokens = start + tl.arange(0, BLOCK)
            tempered = load_tempered(row, tokens, vocab_size, largest, temperature)
            order = order_of(tempered, tokens, ID_BITS)
            counts = (order >= least) & (order >> (shift + DIGIT_BITS) == prefix) & (tokens < vocab_size)
            digit = (order >> shift) & ((1 << DIGIT_BITS) - 1)
            is_of = counts[:, None] & (digit[:, None] == digits[None, :])  # [BLOCK, 1 << DIGIT_BITS]
            numbers += tl.sum(tl.where(is_of, 1.0, 0.0), axis=0)
            if BY_MASS:
                amounts += tl.sum(tl.where(is_of, tl.exp(tempered)[:, None], 0.0), axis=0)
        if not BY_MASS:
            amounts = numbers
        # what stands above each value of the digit, [1 << DIGIT_BITS]
        higher = above + tl.sum(tl.where(digits[:, None] > digits[None, :], amounts[:, None], 0.0), axis=0)
        chosen = tl.min(tl.where(higher < limit, digits, (1 << DIGIT_BITS) - 1), axis=0)
        above = tl.sum(tl.where(digits == chosen, higher, 0.0), axis=0)
        left = tl.sum(tl.where(digits == chosen, numbers, 0.0), axis=0)
        prefix = (prefix << DIGIT_BITS) + chosen
    return tl.maximum(prefix << shift, least)


@triton.jit
def draw_rows(
    logits,
    temperatures,
    top_ks,
    top_ps,
    min_ps,
    seeds,
    steps,
    drawn,
    kept,  # [num_rows, vocab_size] bool, if WRITES_KEPT, of rows that are not greedy
    row_stride,
    vocab_size,
    WRITES_KEPT: tl.constexpr,
    ID_BITS: tl.constexpr,
    NUM_DIGITS: tl.constexpr,
    DIGIT_BITS: tl.constexpr,
    NOISE_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE_BLOCK: tl.constexpr,
):
    """Grid (num_rows,)."""
    index = tl.program_id(0).to(tl.int64)
    row = logits + index * row_stride
    temperature = tl.load(temperatures + index).to(tl.float32)
    is_greedy = temperature == 0
    temperature = tl.maximum(temperature, 1.1754943508222875e-38)  # the smallest normal float32
    top_k, top_p = tl.load(top_ks + index), tl.load(top_ps + index).to(tl.float32)
    min_p = tl.load(min_ps + index).to(tl.float32)

    highest = tl.full((WIDE_BLOCK,), -float("inf"), tl.float32)
    highest_token = tl.zeros((WIDE_BLOCK,), tl.int32)
    for start in range(0, vocab_size, WIDE_BLOCK):
        tokens = start + tl.arange(0, WIDE_BLOCK)
        value = tl.load(row + tokens, mask=tokens < vocab_size, other=-float("inf"))
        highest_token = tl.where(value > highest, tokens, highest_token)
        highest = tl.maximum(highest, value)
    largest = tl.max(highest, axis=0)
    token = tl.min(tl.where(highest == largest, highest_token, 2147483647), axis=0)
    end = tl.where(is_greedy, 0, vocab_size)  # the largest is all that is wanted

    least = tl.zeros((), tl.int64)
    if (top_k > 0) & (top_k < end):
        least = find_first_kept(
            row, vocab_size, largest, temperature, least, top_k.to(tl.float32), False,
            ID_BITS, NUM_DIGITS, DIGIT_BITS, BLOCK,
        )  # fmt: skip
    if (top_p < 1) & (end > 0):
        mass = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, vocab_size, BLOCK):
            tokens = start + tl.arange(0, BLOCK)
            tempered = load_tempered(row, tokens, vocab_size, largest, temperature)
            mass += tl.where(order_of(tempered, tokens, ID_BITS) >= least, tl.exp(tempered), 0.0)
        limit = tl.maximum(top_p * tl.sum(mass, axis=0), 1.1754943508222875e-38)  # the first is kept in any case
        least = find_first_kept(
            row, vocab_size, largest, temperature, least, limit, True,
            ID_BITS, NUM_DIGITS, DIGIT_BITS, BLOCK,
        )  # fmt: skip

    seed, step = tl.load(seeds + index), tl.load(steps + index)
    QUARTER: tl.constexpr = NOISE_BLOCK // 4
    lanes = tl.arange(0, QUARTER)
    best = tl.full((QUARTER,), -float("inf"), tl.float32)
    best_token = tl.zeros((QUARTER,), tl.int32)
    for start in range(0, end, NOISE_BLOCK):
        counters = (start // 4 + lanes).to(tl.uint32)
        nothing = counters * 0
        words = tl.philox(
            seed, counters, nothing + (step & 0xFFFFFFFF).to(tl.uint32), nothing + (step >> 32).to(tl.uint32), nothing
        )
        for part in tl.static_range(4):
            tokens = start + part * QUARTER + lanes
            tempered = load_tempered(row, tokens, vocab_size, largest, temperature)
            weight = tl.exp(tempered)
            is_kept = (order_of(tempered, tokens, ID_BITS) >= least) & (weight >= min_p) & (weight > 0)
            is_kept = is_kept & (tokens < vocab_size)
            if WRITES_KEPT:
                tl.store(kept + index * vocab_size + tokens, is_kept, mask=tokens < vocab_size)
            u = (words[part].to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 2^-32
            # -log(1 - u); near 0 by its series, whose next term is below 2^-26 of it
            small = u * (1 + u * (0.5 + u * (0.3333333333333333 + u * (0.25 + u * 0.2))))
            noise = tl.log(tl.where(u < 0.03125, small, -tl.log(1 - u)))
            score = tl.where(is_kept, tempered - noise, -float("inf"))
            is_better = score > best
            best_token = tl.where(is_better, tokens, best_token)
            best = tl.where(is_better, score, best)
    drawn_token = tl.min(tl.where(best == tl.max(best, axis=0), best_token, 2147483647), axis=0)
    tl.store(drawn + index, tl.where(is_greedy, token, drawn_token).to(tl.int64))


def draw(logits: Tensor, params: DrawParams, *, kept: Tensor | None = None) -> Tensor:
    """As :func:`kernels.sampling.draw_reference`.

    Args:
        logits: [num_rows, vocab_size] float32, entries of a row side by side.
        kept: [num_rows, vocab_size] bool, in one piece: the tokens that may be drawn are written to it, but for rows
            of temperature 0.

    Raises:
        ValueError: the logits are of another dtype, or entries of a row are not side by side.
    """
    if logits.dtype != torch.float32 or logits.stride(-1) != 1:
        raise ValueError(
            f"the logits are {logits.dtype}, {logits.stride(-1)} apart: they must be float32, side by side"
        )
    num_rows, vocab_size = logits.shape
    drawn = torch.empty(num_rows, dtype=torch.int64, device=logits.device)
    if num_rows:
        draw_rows[(num_rows,)](
            logits, *params, drawn, drawn if kept is None else kept, logits.stride(0), vocab_size,
            WRITES_KEPT=kept is not None, **_constants(vocab_size), num_warps=NUM_WARPS,
        )  # fmt: skip
    return drawn


def _constants(vocab_size: int) -> dict[str, int]:
    id_bits = max(vocab_size - 1, 1).bit_length()
    return {
        "ID_BITS": id_bits,
        "NUM_DIGITS": triton.cdiv(LOGIT_BITS + id_bits, DIGIT_BITS),
        "DIGIT_BITS": DIGIT_BITS,
        "NOISE_BLOCK": NOISE_BLOCK,
        "BLOCK": BLOCK,
        "WIDE_BLOCK": WIDE_BLOCK,
    }


VOCABULARIES = {"persimmon-8b": 262_144, "llama-2-7b": 32_000}


def compile_cases() -> list[CompileCase]:
    pointers = ("logits", "temperatures", "top_ks", "top_ps", "min_ps", "seeds", "steps", "drawn", "kept")
    types = (
        dict.fromkeys(pointers, "*fp64")
        | {"logits": "*fp32"}
        | dict.fromkeys(("top_ks", "seeds", "steps", "drawn"), "*i64")
    )
    types |= {"kept": "*i1", "row_stride": "i32", "vocab_size": "i32"}
    return [
        CompileCase(
            name=f"draw_rows {model}",
            kernel=draw_rows,
            signature=types,
            constants={"WRITES_KEPT": False, **_constants(vocab_size)},
            divisible_by_16=(*pointers, "row_stride", "vocab_size"),
            num_warps=NUM_WARPS,
        )
        for model, vocab_size in VOCABULARIES.items()
    ]


def make_params(device: torch.device, num_rows: int, *, top_k: int = 0, top_p: float = 1.0) -> DrawParams:
    """Rows alike but for their seeds."""
    ones = torch.ones(num_rows, device=device)
    rows = torch.arange(num_rows, device=device)
    return DrawParams(0.8 * ones, torch.full_like(rows, top_k), top_p * ones, 0 * ones, rows, rows)


def _make(device: torch.device, dtype: torch.dtype, *, num_rows: int, top_k: int, top_p: float) -> BenchCall:
    generator = torch.Generator(device).manual_seed(0)
    logits = 3 * torch.randn((num_rows, VOCABULARIES["persimmon-8b"]), generator=generator, device=device)
    params = make_params(device, num_rows, top_k=top_k, top_p=top_p)
    return BenchCall(
        kernel=lambda: draw(logits, params),
        reference=lambda: draw_reference(logits, params),
        num_bytes=logits.nbytes,
    )


def bench_cases() -> list[BenchCase]:
    """Tokens must be the same: the seeds are such that no two scores or sums are near a tie."""
    return [
        BenchCase(
            name=f"draw persimmon-8b {num_rows} rows, {what}",
            make=partial(_make, num_rows=num_rows, top_k=top_k, top_p=top_p),
            absolute=0.0,
            relative=0.0,
            peers={},
        )
        for num_rows in (1, 64)
        for what, top_k, top_p in (("no filter", 0, 1.0), ("top-k 50", 50, 1.0), ("top-k 50, top-p 0.9", 50, 0.9))
    ]

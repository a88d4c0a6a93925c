"""Token log-probabilities with the vocabulary's matrix product and softmax in one kernel.

A program holds a block of rows and goes through the tiles of one group of the vocabulary, with a running maximum, sum
and argmax (online softmax, Milakov and Gimelshein 2018); a second kernel combines the groups in order. Logits are in
registers only. How the vocabulary is divided depends on its size alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.cases import BenchCall, BenchCase, CompileCase
from kernels.token_logprobs import TokenLogprobs, token_logprobs_reference

VOCAB_TILE = 128
# Groups of the vocabulary at most: few rows make one block of rows, and then the groups alone have to fill a GPU of
# 132 multiprocessors.
MAX_GROUPS = 128
TARGETS_PER_PROGRAM = 16


@triton.jit
def score_groups(
    hidden,
    weight,
    targets,  # [num_targets], sorted by row
    order,  # [num_targets], where each of them stood before
    target_starts,  # [num_rows + 1]
    maxima,  # [num_groups, num_rows], as the next two
    totals,
    argmaxima,
    target_logits,  # [num_targets], in the caller's order
    num_rows,
    vocab_size,
    hidden_size,
    hidden_stride,
    weight_stride,
    tiles_per_group,
    scale,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # Blocks of rows vary fastest, so that those of one group read its weights while they are in the L2 cache.
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    group = tl.program_id(1)
    is_row = row < num_rows
    depth = tl.arange(0, DEPTH)
    hidden_rows = hidden + row.to(tl.int64)[:, None] * hidden_stride
    first_target = tl.load(target_starts + row, mask=is_row, other=0)
    num_targets = tl.load(target_starts + row + 1, mask=is_row, other=0) - first_target
    most_targets = tl.max(num_targets, axis=0)
    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    argmax = tl.zeros([ROWS], tl.int32)
    for tile in range(group * tiles_per_group, (group + 1) * tiles_per_group):
        column = tile * COLUMNS + tl.arange(0, COLUMNS)
        is_column = column < vocab_size
        weight_columns = weight + column.to(tl.int64)[None, :] * weight_stride
        sums = tl.zeros([ROWS, COLUMNS], tl.float32)
        for start in range(0, hidden_size, DEPTH):
            at = start + depth
            inside = at < hidden_size
            states = tl.load(hidden_rows + at[None, :], mask=is_row[:, None] & inside[None, :], other=0.0)
            weights = tl.load(weight_columns + at[:, None], mask=is_column[None, :] & inside[:, None], other=0.0)
            sums = tl.dot(states, weights, sums, input_precision=PRECISION)
        logits = sums.to(weight.dtype.element_ty).to(tl.float32) * scale
        logits = tl.where(is_column[None, :], logits, float("-inf"))
        for i in range(0, most_targets):
            is_target = i < num_targets
            target = tl.load(targets + first_target + i, mask=is_target, other=-1)
            picked = tl.sum(tl.where(column[None, :] == target[:, None], logits, 0.0), axis=1)
            here = is_target & (target >= tile * COLUMNS) & (target < (tile + 1) * COLUMNS)
            place = tl.load(order + first_target + i, mask=here, other=0)
            tl.store(target_logits + place, picked, mask=here)
        tile_maximum = tl.max(logits, axis=1)
        # The first column of the largest: a plain minimum of ids, which is the same whatever order a reduction takes.
        tile_argmax = tl.min(tl.where(logits == tile_maximum[:, None], column[None, :], 2147483647), axis=1)
        argmax = tl.where(tile_maximum > maximum, tile_argmax, argmax)
        new_maximum = tl.maximum(maximum, tile_maximum)
        shift = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)  # -inf - -inf is NaN
        total = total * tl.exp(maximum - shift) + tl.sum(tl.exp(logits - shift[:, None]), axis=1)
        # A logit of NaN does not reach the maximum on a GPU, but the sum, and through it the result.
        maximum = new_maximum
    place = group.to(tl.int64) * num_rows + row
    tl.store(maxima + place, maximum, mask=is_row)
    tl.store(totals + place, total, mask=is_row)
    tl.store(argmaxima + place, argmax, mask=is_row)


@triton.jit
def combine_groups(
    rows,
    targets,
    maxima,
    totals,
    argmaxima,
    target_logits,
    logprobs,
    is_argmax,
    num_targets,
    num_rows,
    num_groups,
    TARGETS: tl.constexpr,
    GROUPS: tl.constexpr,
):
    at = tl.program_id(0) * TARGETS + tl.arange(0, TARGETS)
    is_target = at < num_targets
    row = tl.load(rows + at, mask=is_target, other=0)
    group = tl.arange(0, GROUPS)
    place = group[None, :].to(tl.int64) * num_rows + row[:, None]
    inside = is_target[:, None] & (group < num_groups)[None, :]
    maximum = tl.load(maxima + place, mask=inside, other=float("-inf"))
    total = tl.load(totals + place, mask=inside, other=0.0)
    argmax = tl.load(argmaxima + place, mask=inside, other=2147483647)
    largest = tl.max(maximum, axis=1)
    first = tl.min(tl.where(maximum == largest[:, None], argmax, 2147483647), axis=1)
    shift = tl.where(largest == float("-inf"), 0.0, largest)
    log_total = tl.log(tl.sum(total * tl.exp(maximum - shift[:, None]), axis=1))
    logit = tl.load(target_logits + at, mask=is_target, other=0.0)
    tl.store(logprobs + at, logit - largest - log_total, mask=is_target)
    tl.store(is_argmax + at, first == tl.load(targets + at, mask=is_target, other=-1), mask=is_target)


def row_block(num_rows: int) -> int:
    """Rows of a program: 16 is the least of a tensor core's product."""
    return 16 if num_rows <= 16 else 64 if num_rows <= 64 else 128


def _division(vocab_size: int) -> tuple[int, int]:
    """Tiles of each group, number of groups."""
    num_tiles = triton.cdiv(vocab_size, VOCAB_TILE)
    tiles_per_group = triton.cdiv(num_tiles, MAX_GROUPS)
    return tiles_per_group, triton.cdiv(num_tiles, tiles_per_group)


def _constants(rows: int, dtype: torch.dtype) -> dict[str, object]:
    is_wide = dtype == torch.float32
    return {
        "ROWS": min(rows, 64) if is_wide else rows,
        "COLUMNS": VOCAB_TILE,
        "DEPTH": 32 if is_wide else 64,
        "PRECISION": "ieee" if is_wide else "tf32",  # "tf32" is read for float32 alone
    }


def _num_warps(rows: int) -> int:
    return 8 if rows >= 64 else 4


@torch.no_grad()
def token_logprobs(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    rows: Tensor | None = None,
    scale: float = 1.0,
    top_k: int = 0,
    rows_of_a_program: int | None = None,
) -> TokenLogprobs:
    """As :func:`kernels.token_logprobs.token_logprobs_reference`, which see. With a `top_k` it is the reference that
    runs, on the tensors' device: the kernel has none.

    Args:
        hidden_states: [num_rows, hidden_size], bfloat16, float16 or float32; entries of a row adjacent.
        weight: [vocab_size, hidden_size], the same dtype; entries of a row adjacent.
        targets, rows, scale: as there.
        rows_of_a_program: 16, 64 or 128; `None`: as many as suit the number of rows. The same number gives the same
            bits, whatever the other rows.

    Raises:
        ValueError: dtypes differ, or entries of a row are not adjacent.
    """
    if top_k:
        return token_logprobs_reference(hidden_states, weight, targets, rows=rows, scale=scale, top_k=top_k)
    if hidden_states.dtype != weight.dtype:
        raise ValueError(f"hidden states are {hidden_states.dtype} and weights {weight.dtype}: they must be the same")
    if hidden_states.stride(-1) != 1 or weight.stride(-1) != 1:
        raise ValueError("entries of a row of hidden states or weights are not adjacent: make them contiguous")
    num_rows, hidden_size = hidden_states.shape
    vocab_size, device = len(weight), weight.device
    if rows is None:
        if len(targets) != num_rows:
            raise ValueError(f"{len(targets)} targets for {num_rows} rows: say with `rows` where each belongs")
        rows = torch.arange(num_rows, device=device)
    rows, targets = rows.contiguous(), targets.contiguous()
    tiles_per_group, num_groups = _division(vocab_size)
    maxima, totals, target_logits = (
        torch.empty(shape, dtype=torch.float32, device=device)
        for shape in ((num_groups, num_rows), (num_groups, num_rows), (len(targets),))
    )
    argmaxima = torch.empty(num_groups, num_rows, dtype=torch.int32, device=device)
    result = TokenLogprobs(
        torch.empty_like(target_logits),
        torch.empty(len(targets), dtype=torch.bool, device=device),
        torch.empty(num_rows, 0, dtype=torch.float32, device=device),
        torch.empty(num_rows, 0, dtype=torch.int64, device=device),
    )
    if len(targets) == 0 or num_rows == 0:
        return result
    sorted_rows, order = rows.sort(stable=True)
    starts = torch.searchsorted(sorted_rows, torch.arange(num_rows + 1, device=device))
    constants = _constants(rows_of_a_program or row_block(num_rows), weight.dtype)
    block = int(constants["ROWS"])  # type: ignore[call-overload]
    score_groups[(triton.cdiv(num_rows, block), num_groups)](
        hidden_states, weight, targets[order], order, starts, maxima, totals, argmaxima, target_logits,
        num_rows, vocab_size, hidden_size, hidden_states.stride(0), weight.stride(0), tiles_per_group, scale,
        **constants, num_warps=_num_warps(block), num_stages=3,
    )  # fmt: skip
    combine_groups[(triton.cdiv(len(targets), TARGETS_PER_PROGRAM),)](
        rows, targets, maxima, totals, argmaxima, target_logits, result.logprobs, result.is_argmax,
        len(targets), num_rows, num_groups,
        TARGETS=TARGETS_PER_PROGRAM, GROUPS=triton.next_power_of_2(num_groups), num_warps=4,
    )  # fmt: skip
    return result


MODELS = {"persimmon-8b": (262_144, 4096), "llama-2-7b": (32_000, 4096), "mpt-7b": (50_432, 4096)}


def compile_cases() -> list[CompileCase]:
    scored = ["hidden", "weight", "targets", "order", "target_starts", "maxima", "totals", "argmaxima", "target_logits"]
    types = dict.fromkeys(scored, "*fp32") | dict.fromkeys(("targets", "order", "target_starts"), "*i64")
    integers = ("num_rows", "vocab_size", "hidden_size", "hidden_stride", "weight_stride", "tiles_per_group")
    types |= {"argmaxima": "*i32"} | dict.fromkeys(integers, "i32") | {"scale": "fp32"}
    sizes = ("hidden_size", "hidden_stride", "weight_stride", "vocab_size")
    cases = [
        CompileCase(
            name=f"score_groups {rows} rows {model} {short}",
            kernel=score_groups,
            signature=types | {"hidden": f"*{short}", "weight": f"*{short}"},
            constants=_constants(rows, dtype),
            divisible_by_16=(*scored, *sizes),
            num_warps=_num_warps(rows),
            num_stages=3,
        )
        for model in MODELS
        for rows in (128, 64, 16)
        for short, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16))
        if model == "persimmon-8b" or (rows == 128 and short == "bf16")
    ]
    combined = ["rows", "targets", "maxima", "totals", "argmaxima", "target_logits", "logprobs", "is_argmax"]
    types = dict.fromkeys(combined, "*fp32") | {"rows": "*i64", "targets": "*i64", "argmaxima": "*i32"}
    types |= {"is_argmax": "*i1"} | dict.fromkeys(("num_targets", "num_rows", "num_groups"), "i32")
    return [
        *cases,
        CompileCase(
            name="combine_groups persimmon-8b",
            kernel=combine_groups,
            signature=types,
            constants={"TARGETS": TARGETS_PER_PROGRAM, "GROUPS": MAX_GROUPS},
            divisible_by_16=tuple(combined),
            loads_16_bytes=False,  # rows are gathered
        ),
    ]


def bench_cases() -> list[BenchCase]:
    return [_bench(model, rows) for model, rows in (*((m, 512) for m in MODELS), ("persimmon-8b", 8))]


def _bench(model: str, num_rows: int) -> BenchCase:
    vocab_size, hidden_size = MODELS[model]

    def tensors(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator(device).manual_seed(0)
        hidden = torch.randn(num_rows, hidden_size, device=device, dtype=dtype, generator=generator)
        weight = torch.randn(vocab_size, hidden_size, device=device, dtype=dtype, generator=generator)
        targets = torch.randint(0, vocab_size, (num_rows,), device=device, generator=generator)
        return hidden, weight.mul_(hidden_size**-0.5), targets

    def make(device: torch.device, dtype: torch.dtype) -> BenchCall:
        hidden, weight, targets = tensors(device, dtype)
        return BenchCall(
            # Not is_argmax: logits that differ in their last bit may be equal to another's.
            kernel=lambda: token_logprobs(hidden, weight, targets).logprobs,
            reference=lambda: token_logprobs_reference(hidden, weight, targets).logprobs,
            num_bytes=(hidden.numel() + weight.numel()) * weight.element_size(),
            num_flops=2 * num_rows * vocab_size * hidden_size,
        )

    def whole(device: torch.device, dtype: torch.dtype):  # type: ignore[no-untyped-def]
        hidden, weight, targets = tensors(device, dtype)
        return lambda: -torch.nn.functional.cross_entropy((hidden @ weight.T).float(), targets, reduction="none")

    # A logit is of the size of 4, where two bfloat16 are 1/32 apart.
    return BenchCase(
        name=f"token_logprobs {num_rows} rows {model}", make=make, absolute=0.04, relative=0.0, peers={"torch": whole}
    )

"""Log-probabilities of given tokens, and the most probable ones, without the logits of the whole vocabulary ever
existing at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows and vocabulary entries per tile. On a CPU 4 MiB of fp32 logits, which stay in cache: 128 to 1024 rows and 512 to
# 4096 entries measured within 30 % of each other on a Xeon, and with a top k wide tiles do better. On a GPU 16 MiB, for
# fewer launches.
CPU_TILE = (256, 4096)
GPU_TILE = (1024, 4096)
GROUP = 32  # neighbours in a row that stand for each other in a top k; 32 to 128 measured best


class TokenLogprobs(NamedTuple):
    """Natural-log probabilities from one pass over the vocabulary.

    Attributes:
        logprobs: [num_targets] float32, of each target at its row; NaN where a row has no finite logit.
        is_argmax: [num_targets] bool, whether no other token has a larger logit, nor a lower one the same.
        top_logprobs: [num_rows, min(top_k, vocab_size)] float32, the largest of each row, descending. Where a target is
            among them, it has the identical float in `logprobs`.
        top_ids: the same shape, int64: the tokens they belong to, by falling logit, on equal logits the lower id first.
    """

    logprobs: Tensor
    is_argmax: Tensor
    top_logprobs: Tensor
    top_ids: Tensor


class Product(Protocol):
    def __call__(self, states: Tensor, weight: Tensor, /, *, output: Tensor) -> None: ...


def _product_(states: Tensor, weight: Tensor, *, output: Tensor) -> None:
    torch.mm(states, weight.T, out=output)


@torch.no_grad()
def token_logprobs_reference(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    rows: Tensor | None = None,
    scale: float = 1.0,
    top_k: int = 0,
    product_: Product = _product_,
) -> TokenLogprobs:
    """Log-probabilities of targets under softmax(scale * hidden_states @ weight.T), each at its row, and the top k.

    Streams the vocabulary in tiles, once per row whatever the number of targets, with a running maximum and sum (online
    softmax, Milakov and Gimelshein 2018) and a running top k. Logits are rounded to the weights' dtype, sums are fp32.
    Beside inputs and result it takes less than 64 MB, whatever their sizes.

    Args:
        hidden_states: [num_rows, hidden_size].
        weight: [vocab_size, hidden_size], the same dtype.
        targets: [num_targets] int64, in [0, vocab_size).
        rows: [num_targets] int64 in [0, num_rows): where each target is scored, in any order, any row any number of
            times; `None` scores target i at row i.
        top_k: how many of the most probable tokens of each row are wanted.
        product_: writes states @ weight.T into `output`.
    """
    device = hidden_states.device
    if rows is None:
        if len(targets) != len(hidden_states):
            raise ValueError(
                f"{len(targets)} targets for {len(hidden_states)} rows: say with `rows` where each belongs"
            )
        rows = torch.arange(len(targets), device=device)
    width = min(top_k, len(weight))
    result = TokenLogprobs(
        torch.empty(len(targets), dtype=torch.float32, device=device),
        torch.empty(len(targets), dtype=torch.bool, device=device),
        torch.empty(len(hidden_states), width, dtype=torch.float32, device=device),
        torch.empty(len(hidden_states), width, dtype=torch.int64, device=device),
    )
    row_tile, vocab_tile = CPU_TILE if device.type == "cpu" else GPU_TILE
    for start in range(0, len(hidden_states), row_tile):
        tile = slice(start, start + row_tile)
        here = ((rows >= start) & (rows < start + row_tile)).nonzero()[:, 0]
        if len(here) or width:
            scored = _score_rows(
                hidden_states[tile],
                torch.split(weight, vocab_tile),
                targets[here],
                rows[here] - start,
                scale,
                width,
                product_,
            )
            result.logprobs[here], result.is_argmax[here] = scored.logprobs, scored.is_argmax
            result.top_logprobs[tile], result.top_ids[tile] = scored.top_logprobs, scored.top_ids
    return result


def _score_rows(
    hidden_states: Tensor,
    weight_tiles: Sequence[Tensor],
    targets: Tensor,
    rows: Tensor,
    scale: float,
    top_k: int,
    product_: Product,
) -> TokenLogprobs:
    num_rows, device = len(hidden_states), hidden_states.device
    maximum = torch.full((num_rows,), -torch.inf, device=device)
    argmax = torch.zeros(num_rows, dtype=torch.int64, device=device)
    total = torch.zeros(num_rows, dtype=torch.float64, device=device)  # sum of exp(logit - maximum)
    target_logits = torch.zeros(len(targets), device=device)
    top_logits = torch.empty(num_rows, 0, device=device)
    top_ids = torch.empty(num_rows, 0, dtype=torch.int64, device=device)
    first = 0  # the tile's first token id
    # One buffer for all tiles: glibc does not give a tile the place of the one before, because an aligned block needs a
    # little more than its own size, so that new ones would fill an arena of 64 MiB, page by page.
    size = num_rows * len(weight_tiles[0])
    products = torch.empty(size, dtype=hidden_states.dtype, device=device)
    buffer = products if products.dtype == torch.float32 else torch.empty(size, dtype=torch.float32, device=device)
    for tile in weight_tiles:
        shape = (num_rows, len(tile))
        logits = buffer[: num_rows * len(tile)].view(shape)
        product = products[: num_rows * len(tile)].view(shape)
        product_(hidden_states, tile, output=product)
        if buffer is not products:
            logits.copy_(product)
        if scale != 1.0:
            logits.mul_(scale)
        columns = targets - first
        in_tile = (columns >= 0) & (columns < len(tile))
        picked = logits[rows, columns.clamp(0, len(tile) - 1)]
        target_logits = torch.where(in_tile, picked, target_logits)
        if top_k:
            values, ids = stable_top_k(logits, top_k)
            # What stands first has the lower ids, so the stable sort keeps them first.
            values, order = torch.cat([top_logits, values], dim=-1).sort(dim=-1, descending=True, stable=True)
            top_logits = values[:, :top_k]
            top_ids = torch.cat([top_ids, ids + first], dim=-1).gather(-1, order[:, :top_k])
        tile_maximum, tile_argmax = logits.max(dim=-1)  # the first of equal ones
        argmax = torch.where(tile_maximum > maximum, tile_argmax + first, argmax)
        new_maximum = torch.maximum(maximum, tile_maximum)
        # Up to here a row may hold nothing but -inf, and -inf - -inf is NaN.
        shift = new_maximum.masked_fill(new_maximum == -torch.inf, 0.0)
        tile_total = logits.sub_(shift[:, None]).exp_().sum(dim=-1)
        total = total * (maximum - shift).exp() + tile_total
        maximum = new_maximum
        first += len(tile)
    log_total = total.log().float()
    return TokenLogprobs(
        target_logits - maximum[rows] - log_total[rows],
        argmax[rows] == targets,
        top_logits - maximum[:, None] - log_total[:, None],
        top_ids,
    )


def stable_top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k columns of a stable descending sort of each row: on equal values the lower index comes first, which
    torch.topk leaves open.

    Args:
        values: [num_rows, n] float32, none NaN.

    Returns:
        values [num_rows, min(k, n)] float32, indices of the same shape, int64.
    """
    num_rows, n = values.shape
    k = min(k, n)
    if k == 0:
        return values[:, :0], torch.empty(num_rows, 0, dtype=torch.int64, device=values.device)
    if n < 2 * k * GROUP:
        indices = _stable_top_k_indices(values, k)
        return values.gather(-1, indices), indices
    # Only the k groups with the largest maxima, of equal ones the first, can hold any of the k: every such group has an
    # entry that comes before all entries of the other groups.
    padding = -n % GROUP  # ranks behind all n entries, also behind those that are -inf
    padded = F.pad(values, (0, padding), value=-torch.inf) if padding else values
    groups = padded.reshape(num_rows, padded.shape[-1] // GROUP, GROUP)
    best = _stable_top_k_indices(groups.amax(dim=-1), k).sort(dim=-1).values
    candidates = groups.gather(1, best[:, :, None].expand(-1, -1, GROUP)).flatten(1)  # [num_rows, k * GROUP]
    places = _stable_top_k_indices(candidates, k)
    return candidates.gather(-1, places), best.gather(-1, places // GROUP) * GROUP + places % GROUP


def _stable_top_k_indices(values: Tensor, k: int) -> Tensor:
    """[num_rows, n] float32 -> [num_rows, k] int64, k <= n. One integer key holds value and index, so no two are equal:
    floats as integers of the same order (Herf 2001, Radix Tricks) above n - 1 - index; -0 becomes 0."""
    n = values.shape[-1]
    bits = (values + 0.0).view(torch.int32)
    bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))
    keys = bits.long().mul_(2**32).add_(torch.arange(n - 1, -1, -1, device=values.device))
    return keys.topk(k, dim=-1).indices

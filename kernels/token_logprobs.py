"""Log-probability of given tokens without the logits of the whole vocabulary ever existing at once."""

from __future__ import annotations

import torch
from torch import Tensor

ROW_TILE = 1024  # rows and vocabulary entries per tile: 1024 x 4096 fp32 logits are 16 MiB
VOCAB_TILE = 4096


def token_logprobs_reference(
    hidden_states: Tensor, weight: Tensor, targets: Tensor, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probability of each row's target under softmax(scale * hidden @ weight.T), and whether it is the argmax.

    Streams the vocabulary in tiles with a running maximum and sum (online softmax, Milakov and Gimelshein 2018).
    Sums are fp32. On equal logits the lower token id is the argmax.

    Args:
        hidden_states: [num_rows, hidden_size].
        weight: [vocab_size, hidden_size], the same dtype.
        targets: [num_rows] int64, in [0, vocab_size).

    Returns:
        logprobs [num_rows] float32 (natural log), is_argmax [num_rows] bool.
    """
    logprobs = torch.empty(len(targets), dtype=torch.float32, device=hidden_states.device)
    is_argmax = torch.empty(len(targets), dtype=torch.bool, device=hidden_states.device)
    for start in range(0, len(targets), ROW_TILE):
        rows = slice(start, start + ROW_TILE)
        logprobs[rows], is_argmax[rows] = _row_tile(hidden_states[rows], weight, targets[rows], scale)
    return logprobs, is_argmax


def _row_tile(hidden_states: Tensor, weight: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    device = hidden_states.device
    maximum = torch.full((len(targets),), -torch.inf, device=device)
    argmax = torch.zeros(len(targets), dtype=torch.int64, device=device)
    total = torch.zeros(len(targets), device=device)  # sum of exp(logit - maximum)
    target_logit = torch.zeros(len(targets), device=device)
    for first in range(0, len(weight), VOCAB_TILE):
        logits = (hidden_states @ weight[first : first + VOCAB_TILE].T).float() * scale  # [rows, tile]
        tile_maximum, tile_argmax = logits.max(dim=-1)
        in_tile = (targets >= first) & (targets < first + logits.shape[-1])
        picked = logits.gather(-1, (targets - first).clamp(0, logits.shape[-1] - 1)[:, None])[:, 0]
        target_logit = torch.where(in_tile, picked, target_logit)
        argmax = torch.where(tile_maximum > maximum, tile_argmax + first, argmax)
        new_maximum = torch.maximum(maximum, tile_maximum)
        tile_total = logits.sub_(new_maximum[:, None]).exp_().sum(dim=-1)
        total = total * (maximum - new_maximum).exp() + tile_total
        maximum = new_maximum
    return target_logit - maximum - total.log(), argmax == targets

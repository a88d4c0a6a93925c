"""How a text longer than the context is scored: in windows that move over it, each token in exactly one of them."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

LM_EVALS_OVERLAP = 1  # context_len of every lm-eval back-end's `loglikelihood_rolling`


def rolling_windows(
    token_ids: Sequence[int], *, prefix_token: int, max_length: int, overlap: int = LM_EVALS_OVERLAP
) -> list[tuple[list[int], list[int]]]:
    """Windows over a text as (context, tokens to score).

    The first window's context is the prefix token alone. Tokens of later windows see at least `overlap` tokens of the
    text before them; the last window reaches back as far as it can. With 1 the windows are lm-eval's own, in which the
    first token of each sees only the one before it; half of `max_length` computes the text about twice.

    Args:
        token_ids: the text, all of which is scored; if there is none, there are no windows.
        max_length: most tokens the model reads in a window. It does not read the last one it scores.
        overlap: 1 to max_length.
    """
    windows = get_rolling_token_windows(
        token_list=list(token_ids), prefix_token=prefix_token, max_seq_len=max_length, context_len=overlap
    )
    return [make_disjoint_window(window) for window in windows]

"""Whether both sides gave the same results: the condition of every figure.

Greedy answers must be the same tokens. Where they are not, the two most probable tokens can be tied to the last digits
of fp32, which come out otherwise in another order of summation (a padded batch's); so an answer that differs counts as
the same only if Hugging Face itself, run on it without padding, finds every token of ours within `TIE` of its most
probable one, and it is counted as a tie. Where the peer is not Hugging Face, its answers are
judged instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from evals.bench import verify
from evals.bench.processes import Alone
from evals.bench.results import ResultsDiffer
from evals.bench.runs import Answers
from evals.bench.workloads import AnswerWork, DecodeWork, ScoreWork, Work

TIE = 1e-4  # logits
TOLERANCE = 1e-4  # natural-log probability of a whole continuation
RELATIVE_TOLERANCE = 1e-6  # of a text of thousands of tokens: sums in float32, as lm-eval's, hold seven digits

Score = tuple[float, bool]


def check(
    alone: Alone,
    checkpoint: str,
    work: Work,
    *,
    ours: Answers,
    peer: Answers,
    context_length: int,
    peer_name: str = "the peer",
    judge_peer: bool = False,
) -> int:
    """Compare the answers of one run of each side.

    Args:
        peer_name: in sentences. judge_peer: whether its token ids are shown to Hugging Face where answers differ, not
            ours.

    Returns:
        How many answers part at a tie.

    Raises:
        ResultsDiffer: they are not the same; the text says where.
    """
    if isinstance(work, ScoreWork):
        compare_scores(ours.scores, peer.scores, items=[request.item for request in work.requests], peer_name=peer_name)
        return 0
    if isinstance(work, DecodeWork):
        different = differing(ours.token_ids, peer.token_ids, peer_name=peer_name)
        prompts: Sequence[Sequence[int]] = [work.requests[i].prompt_token_ids for i in different]
    else:
        written = verify.texts(checkpoint, ours.token_ids)
        different = differing(
            [_cut(text) for text in written], [_cut(text) for text in peer.texts], peer_name=peer_name
        )
        prompts = _prompts(checkpoint, work, different, context_length)
    if different:
        judged = peer.token_ids if judge_peer else ours.token_ids
        pairs = [(prompt, judged[i]) for prompt, i in zip(prompts, different, strict=True)]
        judge_ties(
            different,
            alone(verify.shortfalls, checkpoint, pairs),
            names=(f"{peer_name}'s", "ours") if judge_peer else ("our", f"{peer_name}'s"),
        )
    return len(different)


def differing(ours: Sequence[object], peer: Sequence[object], *, peer_name: str = "the peer") -> list[int]:
    """Places where two lists of answers differ.

    Raises:
        ResultsDiffer: they are not equally long.
    """
    if len(ours) != len(peer):
        raise ResultsDiffer(f"ours gave {len(ours)} answers and {peer_name} {len(peer)}")
    return [place for place, (a, b) in enumerate(zip(ours, peer, strict=True)) if a != b]


def judge_ties(
    places: Sequence[int], shortfalls: Sequence[float], *, names: tuple[str, str] = ("our", "the peer's")
) -> None:
    """Refuse answers that are not greedy to within a tie.

    Args:
        names: whose answers these are, and whose they differ from.

    Raises:
        ResultsDiffer: one is not.
    """
    for place, shortfall in zip(places, shortfalls, strict=True):
        if not shortfall <= TIE:
            raise ResultsDiffer(
                f"{names[0]} answer {place} differs from {names[1]}, and one of its tokens is {shortfall:.2g} below "
                "the most probable one by Hugging Face's logits"
            )


def compare_scores(
    ours: Sequence[Score], peer: Sequence[Score], *, items: Sequence[int], peer_name: str = "the peer"
) -> None:
    """Refuse log-likelihoods, greedy flags or chosen answers that differ.

    Args:
        items: the item of each score; neighbours of one item are its choices.

    Raises:
        ResultsDiffer: something differs.
    """
    if not len(ours) == len(peer) == len(items):
        raise ResultsDiffer(f"ours gave {len(ours)} scores and {peer_name} {len(peer)} for {len(items)} continuations")
    for place, (a, b) in enumerate(zip(ours, peer, strict=True)):
        if not math.isclose(a[0], b[0], rel_tol=RELATIVE_TOLERANCE, abs_tol=TOLERANCE):
            raise ResultsDiffer(f"log-likelihood {place} is {a[0]:.6f} and {peer_name}'s {b[0]:.6f}")
        if a[1] != b[1]:
            raise ResultsDiffer(
                f"continuation {place} is {'' if a[1] else 'not '}greedy, and by {peer_name} it is not so"
            )
    for item, places in groupby(range(len(items)), key=lambda place: items[place]):
        choices = list(places)
        chosen, other = (max(choices, key=lambda place, side=side: side[place][0]) for side in (ours, peer))  # type: ignore[misc]
        if chosen != other:
            raise ResultsDiffer(f"item {item}: choice {chosen - choices[0]} and {peer_name}'s {other - choices[0]}")


def _cut(text: str) -> str:
    """An answer without the blank it begins with: Hugging Face drops it from some documents' first word."""
    return text.removeprefix(" ")


def _prompts(checkpoint: str, work: AnswerWork, places: Sequence[int], context_length: int) -> list[list[int]]:
    requests = [work.requests[i] for i in places]
    room = context_length - max((request.max_tokens for request in requests), default=0)
    return verify.prompt_ids(checkpoint, [request.prompt for request in requests], room=room)

"""Requests of one call that begin with the same tokens: a trunk computes those once, and the others fork from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from model.engine.request import Request

SHORTEST_TRUNK = 8
"""Tokens; computing fewer several times is cheaper than a step more."""


def with_trunks(requests: Sequence[Request], *, max_forks: int, ids: Iterator[int]) -> list[Request]:
    """Put requests that can share their beginning behind trunks; the others stay as they are.

    What is shared is a whole prompt to be answered, or a whole context to be scored after.

    Args:
        max_forks: most requests behind one trunk.
        ids: of new requests.
    """
    groups: dict[tuple[int, ...], list[Request]] = {}
    result: list[Request] = []
    for request in requests:
        shared = _shared(request)
        if len(shared) < SHORTEST_TRUNK:
            result.append(request)
        else:
            groups.setdefault(shared, []).append(request)
    for shared, group in groups.items():
        for begin in range(0, len(group), max_forks):
            forks = group[begin : begin + max_forks]
            result += forks if len(forks) == 1 else [_trunk(shared, forks, next(ids))]
    return result


def _shared(request: Request) -> tuple[int, ...]:
    """The tokens that others may share; none where each one's output is needed, or where vectors stand for some."""
    if request.vectors is not None or request.wants_hidden_state:
        return ()
    if request.params is not None:
        return () if request.targets else tuple(request.token_ids)
    return tuple(request.token_ids[: request.first_target_position + 1])


def _trunk(shared: tuple[int, ...], forks: list[Request], request_id: int) -> Request:
    first = forks[0]
    trunk = Request(
        request_id=request_id,
        token_ids=list(shared),
        num_prompt_tokens=len(shared),
        deliver=lambda event: None,
        arrival_s=first.arrival_s,
        priority=first.priority,
        salt=first.salt,
        forks=forks,
    )
    for fork in forks:
        fork.trunk = trunk
    return trunk

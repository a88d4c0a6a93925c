"""Which requests compute how many tokens in the next step.

Running requests come first, in order of arrival, then waiting ones, all under one budget of tokens; a prompt longer
than what is left of it is computed in chunks. When blocks run out, the youngest running request gives its blocks back
and is computed again later (recompute preemption, as vLLM does). A request that fits the pool alone always finishes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from model.engine.block_pool import BlockPool
from model.engine.request import Request


@dataclass(frozen=True, slots=True)
class Scheduled:
    """`num_new_tokens` of `request`, from its `num_computed_tokens` on, are computed in this step."""

    request: Request
    num_new_tokens: int

    @property
    def reaches_end(self) -> bool:
        """Whether all tokens are computed after this step."""
        return self.request.num_computed_tokens + self.num_new_tokens == self.request.num_tokens


class Scheduler:
    """Continuous batching over a block pool.

    Args:
        pool: of KV blocks.
        max_num_requests: most requests running together.
        max_num_batched_tokens: most tokens computed in one step; at least max_num_requests.
    """

    def __init__(self, pool: BlockPool, *, max_num_requests: int, max_num_batched_tokens: int) -> None:
        if not 1 <= max_num_requests <= max_num_batched_tokens:
            raise ValueError(
                f"max_num_requests={max_num_requests} must be from 1 to max_num_batched_tokens={max_num_batched_tokens}"
            )
        self.pool = pool
        self.max_num_requests = max_num_requests
        self.max_num_batched_tokens = max_num_batched_tokens
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.num_preemptions = 0

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, request: Request) -> None:
        """Queue a request. It must fit the pool when alone."""
        self.waiting.append(request)

    def schedule(self) -> list[Scheduled]:
        """The next step. Blocks for its tokens are held by the requests when it returns; empty only if there is no
        work."""
        budget = self.max_num_batched_tokens
        scheduled: list[Scheduled] = []
        preempted_any = False
        index = 0
        while index < len(self.running) and budget:
            request = self.running[index]
            num_new = min(request.num_tokens - request.num_computed_tokens, budget)
            while not self._hold_blocks(request, num_new):
                preempted_any = True
                if self._preempt_youngest() is request:
                    break
            else:
                scheduled.append(Scheduled(request, num_new))
                budget -= num_new
                index += 1
        # A request that just made room must not be overtaken by its own return.
        while self.waiting and budget and not preempted_any and len(self.running) < self.max_num_requests:
            request = self.waiting[0]
            num_new = min(request.num_tokens, budget)
            if not self._hold_blocks(request, num_new):
                break
            self.waiting.popleft()
            self.running.append(request)
            scheduled.append(Scheduled(request, num_new))
            budget -= num_new
        return scheduled

    def advance(self, scheduled: list[Scheduled]) -> None:
        """Count a step's tokens as computed."""
        for item in scheduled:
            item.request.num_computed_tokens += item.num_new_tokens

    def remove(self, request: Request) -> None:
        """Forget a request, finished or not, and free its blocks.

        Raises:
            ValueError: it is not here.
        """
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)
        self._release(request)

    def _hold_blocks(self, request: Request, num_new_tokens: int) -> bool:
        needed = self.pool.blocks_for(request.num_computed_tokens + num_new_tokens) - len(request.block_table)
        if needed <= 0:
            return True
        blocks = self.pool.allocate(needed)
        if blocks is None:
            return False
        request.block_table.extend(blocks)
        return True

    def _preempt_youngest(self) -> Request:
        request = self.running.pop()
        self._release(request)
        request.num_computed_tokens = 0
        request.logprobs.clear()
        request.is_greedy.clear()
        self.waiting.appendleft(request)
        self.num_preemptions += 1
        return request

    def _release(self, request: Request) -> None:
        self.pool.free(request.block_table)
        request.block_table = []

"""Which requests compute how many tokens in the next step.

Everything goes by rank: arrival, with a head start for requests somebody waits for. Tokens of running answers come
first, one each, then prompts under what is left of the budget of tokens, in chunks where they are longer; while
somebody reads an answer as it grows, prompts get a smaller budget, so that the gaps between its tokens stay short
(Sarathi, Agrawal et al. 2023). When blocks run out, the running request of highest rank gives its blocks back and is
computed again later (recompute preemption, as vLLM does); an interactive request may take a batch request's place in
the same way. A request that fits the pool alone always finishes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from model.engine.block_pool import BlockPool, Content
from model.engine.request import Request


@dataclass(frozen=True, slots=True)
class Scheduled:
    """`num_new_tokens` of `request`, from its `num_computed_tokens` on, are computed in this step; the last
    `num_draft_tokens` of them are drafts."""

    request: Request
    num_new_tokens: int
    num_draft_tokens: int = 0

    @property
    def reaches_end(self) -> bool:
        """Whether all tokens are computed after this step."""
        new = self.num_new_tokens - self.num_draft_tokens
        return self.request.num_computed_tokens + new == self.request.num_tokens


def _rank(request: Request) -> tuple[float, int]:
    return request.rank


class Scheduler:
    """Continuous batching over a block pool.

    Args:
        pool: of KV blocks.
        max_num_requests: most requests running together.
        max_num_batched_tokens: most tokens computed in one step; at least max_num_requests.
        max_num_prompt_tokens: most tokens of prompts computed in a step that also goes on with an interactive answer;
            `None`: no limit of their own.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_num_requests: int,
        max_num_batched_tokens: int,
        max_num_prompt_tokens: int | None = None,
    ) -> None:
        if not 1 <= max_num_requests <= max_num_batched_tokens:
            raise ValueError(
                f"max_num_requests={max_num_requests} must be from 1 to max_num_batched_tokens={max_num_batched_tokens}"
            )
        if max_num_prompt_tokens is not None and max_num_prompt_tokens < 1:
            raise ValueError(f"max_num_prompt_tokens={max_num_prompt_tokens} must be at least 1")
        self.pool = pool
        self.max_num_requests = max_num_requests
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_num_prompt_tokens = max_num_prompt_tokens
        self.waiting: list[Request] = []  # both in order of rank
        self.running: list[Request] = []
        self.num_preemptions = 0
        self._budget = 0  # tokens left in the step being put together
        self._slots = 0  # places that those running take in it

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, request: Request) -> None:
        """Queue a request. It must fit the pool when alone.

        Raises:
            ValueError: more forks than may run together.
        """
        if request.num_slots > self.max_num_requests:
            raise ValueError(f"{request.num_slots} forks can never run together: at most {self.max_num_requests} may")
        insort(self.waiting, request, key=_rank)

    def schedule(self) -> list[Scheduled]:
        """The next step. Blocks for its tokens are held by the requests when it returns; empty only if there is no
        work."""
        step: dict[Request, Scheduled] = {}
        self._budget = self.max_num_batched_tokens
        if self.waiting:  # else nobody is let in, not even who is preempted below
            self._slots = sum(request.num_slots for request in self.running)
        preemptions = self.num_preemptions
        answering = [request for request in self.running if request.num_left == 1]
        prompts = [request for request in self.running if request.num_left > 1]
        for request in answering:
            if self._budget and request.block_table:  # else preempted for another one above
                num_drafts = min(len(request.draft_token_ids), self._budget - 1)
                if num_drafts and not self._hold_blocks(request, 1 + num_drafts):
                    num_drafts = 0
                self._schedule(request, 1, num_drafts, step)
        if self.max_num_prompt_tokens is not None and any(
            request.params is not None and request.priority == "interactive" for request in step
        ):
            self._budget = min(self._budget, self.max_num_prompt_tokens)
        admits = True
        prompts.reverse()
        while self._budget:
            # A request that just made room must not be overtaken by its own return.
            admits = admits and bool(self.waiting) and self.num_preemptions == preemptions
            if admits and (not prompts or self.waiting[0].rank < prompts[-1].rank):
                admits = self._admit(self.waiting[0], step)
            elif prompts:
                request = prompts.pop()
                if request.block_table:
                    self._schedule(request, min(request.num_left, self._budget), 0, step)
            else:
                break
        return list(step.values())

    def schedule_ahead(self, in_flight: Sequence[Scheduled]) -> list[Scheduled]:
        """The step after one of running answers whose tokens are not known yet: one token more of each that can have
        one. Blocks for them are held when it returns.

        Empty if that step must be waited for: all its answers are full, others run beside them or may be let in, or
        somebody would have to give blocks back.
        """
        alive = [item.request for item in in_flight if item.request.block_table]  # the others were removed meanwhile
        if len(alive) < len(self.running) or self._may_admit():
            return []
        going_on = [request for request in alive if request.num_generated + request.num_in_flight < request.max_tokens]
        lacking: list[tuple[Request, int]] = []
        for request in going_on:
            num_tokens = request.num_computed_tokens + request.num_in_flight + 1
            if (count := self.pool.blocks_for(num_tokens) - len(request.block_table)) > 0:
                lacking.append((request, count))
        if sum(count for _, count in lacking) > self.pool.num_free:
            return []
        for request, count in lacking:
            request.block_table.extend(self.pool.allocate(count) or ())
        return [Scheduled(request, 1) for request in going_on]

    def fork(self, trunk: Request, forks: list[Request]) -> list[tuple[int, int]]:
        """Let `forks` go on from the end of a computed request, which leaves.

        Returns:
            Blocks to copy, as pairs of from and to: each fork goes on writing where the trunk's last block is filled in
            part. Must be copied before the next step.
        """
        self.running.remove(trunk)
        pool = self.pool
        num_full, partly = divmod(trunk.num_tokens, pool.block_size)
        copies: list[tuple[int, int]] = []
        for request in forks:
            table = trunk.block_table[:num_full]
            if partly:
                fresh = pool.allocate(1)
                if fresh is None:  # it goes from what the prefix cache keeps
                    insort(self.waiting, request, key=_rank)
                    continue
                copies.append((trunk.block_table[num_full], fresh[0]))
                pool.share(table)
                table += fresh
            else:
                pool.share(table)
            request.block_table = table
            request.contents = list(trunk.contents)
            request.num_computed_tokens = trunk.num_tokens
            insort(self.running, request, key=_rank)
        self._release(trunk)
        return copies

    def publish(self, request: Request) -> None:
        """Make the full blocks of what is computed findable."""
        pool = self.pool
        computed = min(request.num_computed_tokens, request.num_nameable_tokens)
        for index in range(len(request.contents), computed // pool.block_size):
            tokens = self._tokens(request, index)
            before = request.contents[-1] if request.contents else pool.root(request.salt)
            request.contents.append(pool.publish(request.block_table[index], before, tokens))

    def remove(self, request: Request) -> None:
        """Forget a request, finished or not, and free its blocks, whose content can still be found.

        Raises:
            ValueError: it is not here.
        """
        if request in self.running:
            self.running.remove(request)
            self.publish(request)
        else:
            self.waiting.remove(request)
        self._release(request)

    def _schedule(self, request: Request, num_new: int, num_drafts: int, step: dict[Request, Scheduled]) -> None:
        """Put a running request into the step if it can hold the blocks, taking them from those of highest rank."""
        while not self._hold_blocks(request, num_new):
            last = self.running[-1]
            self._preempt(last, step)
            if last is request:
                return
        step[request] = Scheduled(request, num_new + num_drafts, num_drafts)
        self._budget -= num_new + num_drafts

    def _may_admit(self) -> bool:
        """Whether :meth:`schedule` could let the first waiting request in; true more often rather than less."""
        if not self.waiting:
            return False
        request = self.waiting[0]
        if self._must_make_way(request):
            return True
        if sum(other.num_slots for other in self.running) + request.num_slots > self.max_num_requests:
            return False
        found = len(self._found(request))
        num_cached = found * self.pool.block_size
        budget = min(self.max_num_batched_tokens - len(self.running), self.max_num_prompt_tokens or request.num_tokens)
        num_tokens = num_cached + min(request.num_tokens - num_cached, budget)
        return budget > 0 and self.pool.blocks_for(num_tokens) - found <= self.pool.num_free

    def _admit(self, request: Request, step: dict[Request, Scheduled]) -> bool:
        """Let the first waiting request run from this step on, if there is room."""
        found = self._found(request)
        num_cached = len(found) * self.pool.block_size
        while True:
            if self._slots + request.num_slots <= self.max_num_requests:
                num_new = min(request.num_tokens - num_cached, self._budget)
                self.pool.share([block for block, _ in found])
                request.block_table = [block for block, _ in found]
                request.num_computed_tokens = num_cached
                if self._hold_blocks(request, num_new):
                    break
                request.num_computed_tokens = 0
                self._release(request)
            if not self._make_way(request, step):
                return False
        self.waiting.remove(request)
        insort(self.running, request, key=_rank)
        request.contents = [content for _, content in found]
        if request.first_scheduled_s is None:
            request.num_cached_tokens = num_cached
        step[request] = Scheduled(request, num_new)
        self._budget -= num_new
        self._slots += request.num_slots
        return True

    def _found(self, request: Request) -> list[tuple[int, Content]]:
        """Blocks in the cache with the request's first tokens, with their contents."""
        pool = self.pool
        found: list[tuple[int, Content]] = []
        before = pool.root(request.salt)
        for index in range(min(request.num_skippable_tokens, request.num_nameable_tokens) // pool.block_size):
            match = pool.find(before, self._tokens(request, index))
            if match is None:
                break
            found.append(match)
            before = match[1]
        return found

    def _tokens(self, request: Request, index: int) -> tuple[int, ...]:
        """The tokens of a request's full block."""
        size = self.pool.block_size
        return tuple(request.token_ids[index * size : (index + 1) * size])

    def _hold_blocks(self, request: Request, num_new_tokens: int) -> bool:
        needed = self.pool.blocks_for(request.num_computed_tokens + num_new_tokens) - len(request.block_table)
        if needed <= 0:
            return True
        blocks = self.pool.allocate(needed)
        if blocks is None:
            return False
        request.block_table.extend(blocks)
        return True

    def _make_way(self, request: Request, step: dict[Request, Scheduled]) -> bool:
        """Whether a batch request stepped back for an interactive one that goes before it."""
        if not self._must_make_way(request):
            return False
        self._preempt(self.running[-1], step)
        return True

    def _must_make_way(self, request: Request) -> bool:
        if request.priority != "interactive" or not self.running:
            return False
        last = self.running[-1]
        return last.priority != "interactive" and last.rank > request.rank

    def _preempt(self, request: Request, step: dict[Request, Scheduled]) -> None:
        dropped = step.pop(request, None)
        if dropped is not None:
            self._budget += dropped.num_new_tokens
        self.running.remove(request)
        self._slots -= request.num_slots
        self._release(request)
        request.num_computed_tokens = 0
        insort(self.waiting, request, key=_rank)
        self.num_preemptions += 1

    def _release(self, request: Request) -> None:
        self.pool.free(request.block_table)
        request.block_table = []
        request.contents = []

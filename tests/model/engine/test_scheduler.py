"""Random arrivals, growth, aborts and scarcity: blocks are conserved, everything finishes, budgets hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model.engine.block_pool import NULL_BLOCK, BlockPool
from model.engine.request import Request
from model.engine.scheduler import Scheduled, Scheduler
from model.interface import SamplingParams


def make_request(request_id: int, num_prompt_tokens: int, max_tokens: int) -> Request:
    """A request that generates `max_tokens`, or is scored if that is 0."""
    return Request(
        request_id=request_id,
        token_ids=[1] * num_prompt_tokens,
        num_prompt_tokens=num_prompt_tokens,
        deliver=lambda event: None,
        arrival_s=0.0,
        params=SamplingParams() if max_tokens else None,
        max_tokens=max_tokens,
    )


class PoolMachine(RuleBasedStateMachine):
    """Allocations and frees in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=12, block_size=4)
        self.held: list[int] = []

    @rule(count=st.integers(0, 13))
    def allocate(self, count: int) -> None:
        free = self.pool.num_free
        blocks = self.pool.allocate(count)
        if count > free:
            assert blocks is None
            assert self.pool.num_free == free
        else:
            assert blocks is not None
            assert len(blocks) == count
            assert not set(blocks) & set(self.held)
            self.held += blocks

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.held), unique=True))
        self.pool.free(some)
        self.held = [block for block in self.held if block not in some]

    @invariant()
    def conserved(self) -> None:
        assert self.pool.num_free + len(self.held) == self.pool.num_usable == 11
        assert NULL_BLOCK not in self.held


TestPool = PoolMachine.TestCase


def test_freeing_twice_is_an_error() -> None:
    pool = BlockPool(4, 4)
    blocks = pool.allocate(2)
    assert blocks is not None
    pool.free(blocks)
    with pytest.raises(ValueError, match="nobody owns it"):
        pool.free(blocks[:1])
    with pytest.raises(ValueError, match="nobody owns it"):
        pool.free([NULL_BLOCK])


class SchedulerMachine(RuleBasedStateMachine):
    """Requests come, compute, grow, are aborted and finish; the pool holds about two of them."""

    NUM_BLOCKS, BLOCK_SIZE, MAX_REQUESTS, BUDGET = 11, 4, 4, 9

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(self.NUM_BLOCKS, self.BLOCK_SIZE)
        self.scheduler = Scheduler(self.pool, max_num_requests=self.MAX_REQUESTS, max_num_batched_tokens=self.BUDGET)
        self.alive: list[Request] = []
        self.num_added = 0

    @rule(num_prompt_tokens=st.integers(1, 30), max_tokens=st.integers(0, 10))
    def add(self, num_prompt_tokens: int, max_tokens: int) -> None:
        request = make_request(self.num_added, num_prompt_tokens, max_tokens)
        self.num_added += 1
        self.alive.append(request)
        self.scheduler.add(request)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.alive))
        self.alive.remove(request)
        self.scheduler.remove(request)
        assert request.block_table == []

    @precondition(lambda self: self.alive)
    @rule()
    def step(self) -> None:
        self.run_step()

    def run_step(self) -> None:
        scheduled = self.scheduler.schedule()
        assert scheduled, "work is left but nothing was scheduled"
        assert sum(item.num_new_tokens for item in scheduled) <= self.BUDGET
        assert len({item.request.request_id for item in scheduled}) == len(scheduled)
        for item in scheduled:
            end = item.request.num_computed_tokens + item.num_new_tokens
            assert item.num_new_tokens >= 1
            assert end <= item.request.num_tokens
            assert len(item.request.block_table) * self.BLOCK_SIZE >= end
            assert item.request in self.scheduler.running
        self.scheduler.advance(scheduled)
        for item in scheduled:
            self.finish_or_grow(item)

    def finish_or_grow(self, item: Scheduled) -> None:
        request = item.request
        if request.num_computed_tokens < request.num_tokens:
            return
        if request.num_generated < request.max_tokens:
            request.token_ids.append(1)
        if request.num_generated == request.max_tokens:
            self.alive.remove(request)
            self.scheduler.remove(request)

    @invariant()
    def blocks_are_conserved(self) -> None:
        held = [block for request in self.scheduler.running for block in request.block_table]
        assert len(held) == len(set(held))
        assert NULL_BLOCK not in held
        assert len(held) + self.pool.num_free == self.pool.num_usable
        assert all(not request.block_table for request in self.scheduler.waiting)
        assert len(self.scheduler.running) <= self.MAX_REQUESTS
        assert {*self.scheduler.running, *self.scheduler.waiting} == set(self.alive)

    def teardown(self) -> None:
        """Whatever happened, what is left finishes in a bounded number of steps."""
        # alone, a request needs at most one step for each token; preempted ones start again, youngest first
        for _ in range(50 * (len(self.alive) + 1) * 40):
            if not self.alive:
                break
            self.run_step()
        assert not self.alive
        assert self.pool.num_free == self.pool.num_usable


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_requests_start_in_order_of_arrival(sizes: list[int]) -> None:
    scheduler = Scheduler(BlockPool(200, 4), max_num_requests=3, max_num_batched_tokens=8)
    requests = [make_request(i, size, 0) for i, size in enumerate(sizes)]
    for request in requests:
        scheduler.add(request)
    started: list[int] = []
    while scheduler.has_work:
        scheduled = scheduler.schedule()
        scheduler.advance(scheduled)
        for item in scheduled:
            if item.request.request_id not in started:
                started.append(item.request.request_id)
            if item.request.num_computed_tokens == item.request.num_tokens:
                scheduler.remove(item.request)
    assert started == list(range(len(sizes)))


def test_the_youngest_makes_room() -> None:
    scheduler = Scheduler(BlockPool(5, 4), max_num_requests=2, max_num_batched_tokens=16)
    old, young = make_request(0, 8, 8), make_request(1, 8, 8)
    scheduler.add(old)
    scheduler.add(young)
    scheduler.advance(scheduler.schedule())
    old.token_ids.append(1)
    young.token_ids.append(1)
    scheduled = scheduler.schedule()
    assert [item.request for item in scheduled] == [old]
    assert list(scheduler.waiting) == [young]
    assert (young.num_computed_tokens, young.block_table, young.num_tokens) == (0, [], 9)
    assert scheduler.num_preemptions == 1


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="max_num_requests=9"):
        Scheduler(BlockPool(5, 4), max_num_requests=9, max_num_batched_tokens=8)
    with pytest.raises(ValueError, match="cannot hold a sequence"):
        BlockPool(1, 4)

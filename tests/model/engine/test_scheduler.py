"""Block pool and scheduler by themselves; test_core_properties.py drives them with everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model.engine.block_pool import NULL_BLOCK, BlockPool
from model.engine.request import Request
from model.engine.scheduler import Scheduler
from model.interface import Priority, SamplingParams


def make_request(
    request_id: int, num_prompt_tokens: int, max_tokens: int, *, priority: Priority = "interactive"
) -> Request:
    """A request that generates `max_tokens`, or is scored if that is 0; no two share a token."""
    return Request(
        request_id=request_id,
        token_ids=[request_id] * num_prompt_tokens,
        num_prompt_tokens=num_prompt_tokens,
        deliver=lambda event: None,
        arrival_s=0.0,
        priority=priority,
        params=SamplingParams() if max_tokens else None,
        max_tokens=max_tokens,
    )


def run_step(scheduler: Scheduler) -> list[tuple[Request, int]]:
    """What was scheduled, with everything counted as computed."""
    scheduled = scheduler.schedule()
    for item in scheduled:
        item.request.num_computed_tokens += item.num_new_tokens
        scheduler.publish(item.request)
    return [(item.request, item.num_new_tokens) for item in scheduled]


class PoolMachine(RuleBasedStateMachine):
    """Allocations, sharing, publishing and frees in any order, against a plain model of who owns what."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=12, block_size=2)
        self.owned: list[list[int]] = []  # one list an owner
        self.content: dict[int, tuple[int, tuple[int, int]]] = {}  # of blocks: what was published last

    @rule(count=st.integers(0, 13))
    def allocate(self, count: int) -> None:
        free = self.pool.num_free
        blocks = self.pool.allocate(count)
        if count > free:
            assert blocks is None
            assert self.pool.num_free == free
        else:
            assert blocks is not None
            assert len(set(blocks)) == count
            assert not set(blocks) & {block for held in self.owned for block in held}
            self.owned.append(blocks)
            for block in blocks:
                self.content.pop(block, None)

    @precondition(lambda self: any(self.owned))
    @rule(data=st.data(), tokens=st.tuples(st.integers(0, 1), st.integers(0, 1)), before=st.integers(0, 2))
    def publish(self, data: st.DataObject, tokens: tuple[int, int], before: int) -> None:
        fresh = [block for held in self.owned for block in held if block not in self.content]
        if fresh:
            block = data.draw(st.sampled_from(fresh))
            known = self.pool.find(before, tokens)
            content = self.pool.publish(block, before, tokens)
            found = self.pool.find(before, tokens)
            assert found is not None
            assert found == (known or (block, content))
            if known is None:
                self.content[block] = (before, tokens)

    @rule(tokens=st.tuples(st.integers(0, 1), st.integers(0, 1)), before=st.integers(0, 2))
    def find_and_share(self, tokens: tuple[int, int], before: int) -> None:
        found = self.pool.find(before, tokens)
        holders = [block for block, key in self.content.items() if key == (before, tokens)]
        assert ([found[0]] if found else []) == holders
        if found:
            self.pool.share([found[0]])
            self.owned.append([found[0]])

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.owned) - 1))
        self.pool.free(self.owned.pop(index))

    @invariant()
    def conserved(self) -> None:
        owned = {block for held in self.owned for block in held}
        assert self.pool.num_free + len(owned) == self.pool.num_usable == 11
        assert NULL_BLOCK not in owned
        assert self.pool.num_findable == len(self.content)


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


def test_what_was_used_last_is_kept_longest() -> None:
    pool = BlockPool(6, 1)
    root = pool.root("")
    blocks = pool.allocate(4)
    assert blocks is not None
    for token, block in enumerate(blocks[:3]):  # the fourth holds nothing that can be found
        pool.publish(block, root, (token,))
    pool.free([blocks[0]])
    pool.free([blocks[1], blocks[2]])
    pool.free([blocks[3]])
    kept = [token for token in range(3) if pool.find(root, (token,))]
    assert kept == [0, 1, 2]
    assert pool.allocate(2) is not None  # the block never used, and the one without content
    assert [token for token in range(3) if pool.find(root, (token,))] == [0, 1, 2]
    assert pool.allocate(1) == [blocks[0]]
    assert pool.allocate(1) == [blocks[2]]  # a sequence's end goes before its beginning
    assert [token for token in range(3) if pool.find(root, (token,))] == [1]


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_requests_start_in_order_of_arrival(sizes: list[int]) -> None:
    scheduler = Scheduler(BlockPool(200, 4), max_num_requests=3, max_num_batched_tokens=8)
    for i, size in enumerate(sizes):
        scheduler.add(make_request(i, size, 0))
    started: list[int] = []
    while scheduler.has_work:
        for request, _ in run_step(scheduler):
            if request.request_id not in started:
                started.append(request.request_id)
            if not request.num_left:
                scheduler.remove(request)
    assert started == list(range(len(sizes)))


def test_the_last_in_rank_makes_room() -> None:
    scheduler = Scheduler(BlockPool(5, 4), max_num_requests=2, max_num_batched_tokens=16)
    old, young = make_request(0, 8, 8), make_request(1, 8, 8)
    scheduler.add(young)
    scheduler.add(old)
    run_step(scheduler)
    old.token_ids.append(1)
    young.token_ids.append(1)
    assert run_step(scheduler) == [(old, 1)]
    assert scheduler.waiting == [young]
    assert (young.num_computed_tokens, young.block_table, young.num_tokens) == (0, [], 9)
    assert scheduler.num_preemptions == 1


def test_a_preempted_request_finds_what_is_left_of_its_blocks() -> None:
    scheduler = Scheduler(BlockPool(6, 4), max_num_requests=2, max_num_batched_tokens=16)
    old, young = make_request(0, 8, 8), make_request(1, 12, 8)
    scheduler.add(old)
    scheduler.add(young)
    while young.num_left:
        run_step(scheduler)
    old.token_ids.append(0)
    young.token_ids.append(1)
    assert run_step(scheduler) == [(old, 1)]
    scheduler.remove(old)
    # its last block was taken first
    assert run_step(scheduler) == [(young, 13 - 8)]


def test_prompts_wait_for_answers_that_somebody_reads() -> None:
    scheduler = Scheduler(BlockPool(100, 4), max_num_requests=4, max_num_batched_tokens=64, max_num_prompt_tokens=10)
    answer, prompt = make_request(0, 4, 8), make_request(1, 50, 8)
    scheduler.add(answer)
    run_step(scheduler)
    scheduler.add(prompt)
    for _ in range(5):
        answer.token_ids.append(0)
        assert run_step(scheduler) == [(answer, 1), (prompt, 10)]
    assert not prompt.num_left


def test_batch_answers_do_not_slow_prompts_down() -> None:
    scheduler = Scheduler(BlockPool(100, 4), max_num_requests=4, max_num_batched_tokens=64, max_num_prompt_tokens=10)
    answer, prompt = make_request(0, 4, 8, priority="batch"), make_request(1, 50, 8, priority="batch")
    scheduler.add(answer)
    run_step(scheduler)
    scheduler.add(prompt)
    answer.token_ids.append(0)
    assert run_step(scheduler) == [(answer, 1), (prompt, 50)]


def test_an_interactive_prompt_overtakes_a_running_batch_prompt() -> None:
    scheduler = Scheduler(BlockPool(100, 4), max_num_requests=4, max_num_batched_tokens=16)
    slow, quick = make_request(0, 60, 0, priority="batch"), make_request(1, 4, 8)
    scheduler.add(slow)
    run_step(scheduler)
    scheduler.add(quick)
    assert run_step(scheduler) == [(quick, 4), (slow, 12)]
    quick.token_ids.append(1)
    assert run_step(scheduler) == [(quick, 1), (slow, 15)]


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="max_num_requests=9"):
        Scheduler(BlockPool(5, 4), max_num_requests=9, max_num_batched_tokens=8)
    with pytest.raises(ValueError, match="max_num_prompt_tokens=0"):
        Scheduler(BlockPool(5, 4), max_num_requests=1, max_num_batched_tokens=8, max_num_prompt_tokens=0)
    with pytest.raises(ValueError, match="cannot hold a sequence"):
        BlockPool(1, 4)
    scheduler = Scheduler(BlockPool(5, 4), max_num_requests=1, max_num_batched_tokens=8)
    trunk = make_request(0, 4, 0)
    trunk.forks = [make_request(1, 4, 1), make_request(2, 4, 1)]
    with pytest.raises(ValueError, match="2 forks"):
        scheduler.add(trunk)

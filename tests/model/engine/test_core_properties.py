"""The engine's core over random arrivals, aborts, scarcity, forks, cached prefixes and drafts.

The runner is replaced by one whose cache holds tokens instead of keys and values: whatever the scheduler and the block
pool do, each sequence must find in its blocks exactly its own tokens, and each result must be what the sequence alone
would have given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from model.engine.batch_builder import build_batch, packing_order
from model.engine.block_pool import NULL_BLOCK, BlockPool
from model.engine.core import EngineCore
from model.engine.model_runner import StepResult
from model.engine.request import Event, Request
from model.engine.sampler import Sampled
from model.engine.scheduler import Scheduled, Scheduler
from model.engine.trunks import with_trunks
from model.interface import EngineError, Priority, SamplingParams, StreamChunk, TokenLogprob, TokenScore
from model.parity.our_forward import WithoutText

VOCAB = 4  # small, so that drafts are sometimes right and beginnings often shared
MAX_TOKENS = 40  # of one request; the pool holds about two and a half of these
BLOCK_SIZE, NUM_BLOCKS, MAX_REQUESTS, BUDGET = 4, 27, 4, 11
EOS = 0


def next_token(tokens: Sequence[int], seed: int) -> int:
    """What follows: for seed 0 often what followed before, so that drafts hit."""
    if seed == 0 and len(tokens) % 7:
        return 1 + len(tokens) % 3
    return (sum((place + 3) * token for place, token in enumerate(tokens)) + seed) % VOCAB


def logprob(tokens: Sequence[int], target: int) -> float:
    return -float((sum((place + 1) * token for place, token in enumerate(tokens)) * 5 + target) % 101)


class TokenRunner:
    """Stands for the model runner; its cache holds tokens."""

    def __init__(self) -> None:
        self.memory = torch.full((NUM_BLOCKS * BLOCK_SIZE,), -1)
        self.fails = False
        self.is_alone: Callable[[], bool] = lambda: True

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        assert self.is_alone()
        blocks = self.memory.view(NUM_BLOCKS, BLOCK_SIZE)
        for source, destination in copies:
            blocks[destination] = blocks[source]

    def run(self, scheduled: Sequence[Scheduled]) -> StepResult:
        assert self.is_alone(), "a step on its way was not waited for"
        if self.fails:
            self.fails = False
            raise RuntimeError("told to fail")
        scheduled = packing_order(scheduled, device=torch.device("cpu"))
        batch, rows = build_batch(scheduled, block_size=BLOCK_SIZE, device=torch.device("cpu"))
        self.memory[batch.slot_mapping] = batch.input_ids
        seen: list[tuple[int, ...]] = []  # for each packed token, its sequence up to it as the cache has it
        for index, item in enumerate(scheduled):
            table = batch.block_tables[index]
            assert NULL_BLOCK not in item.request.block_table
            cached = self.memory.view(NUM_BLOCKS, BLOCK_SIZE)[table].flatten()[: batch.seq_lens[index]].tolist()
            own = item.request.token_ids + item.request.draft_token_ids
            assert cached == own[: len(cached)], "a sequence does not find its own tokens in its blocks"
            seen += [tuple(cached[: int(position) + 1]) for position in self.positions(batch, index)]
        outputs = [seen[row] for row in batch.logits_indices.tolist()]
        return StepResult(
            tokens=[(request, self.sample(request, [outputs[row] for row in ends])) for request, ends in rows.sampled],
            scores=[
                (request, TokenLogprob(token_id=target, logprob=logprob(outputs[row], target)), target == 1)
                for request, row, target in rows.scored
            ],
            hidden_states=[(request, outputs[row]) for request, row in rows.hidden],  # type: ignore[misc]
        )

    @staticmethod
    def positions(batch: Any, index: int) -> Iterator[int]:
        first, last = batch.query_start_loc[index : index + 2].tolist()
        yield from batch.positions[first:last].tolist()

    @staticmethod
    def sample(request: Request, ends: list[tuple[int, ...]]) -> list[Sampled]:
        found: list[Sampled] = []
        for depth, tokens in enumerate(ends):
            token = next_token(tokens, request.seed)
            found.append(Sampled(token, None))
            if depth + 1 < len(ends) and request.draft_token_ids[depth] != token:
                break
        return found


@dataclass(eq=False)
class TokenStep:
    """A step that was launched: for each item its position and blocks as they were then, and its token, or the step
    that chooses it."""

    scheduled: list[Scheduled]
    places: list[tuple[int, list[int], int | TokenStep]]
    chosen: dict[Request, int] | None = None


class TokenGraphs:
    """Stands for the captured steps: nothing is computed before somebody waits for it."""

    def __init__(self, runner: TokenRunner) -> None:
        self.runner = runner
        self.pending: deque[TokenStep] = deque()
        self.last: TokenStep | None = None
        self.num_ahead = 0

    def takes(self, scheduled: Sequence[Scheduled]) -> bool:
        return all(
            item.num_new_tokens == 1 and item.reaches_end and item.request.params is not None for item in scheduled
        )

    def launch(self, scheduled: list[Scheduled]) -> TokenStep:
        places: list[tuple[int, list[int], int | TokenStep]] = []
        for item in scheduled:
            request = item.request
            position = request.num_computed_tokens + request.num_in_flight
            assert request.num_in_flight in (0, 1)
            assert NULL_BLOCK not in request.block_table
            self.num_ahead += request.num_in_flight
            assert position < request.num_prompt_tokens + request.max_tokens - 1, "a token nobody asked for"
            if request.num_in_flight:
                assert self.last is not None
                places.append((position, list(request.block_table), self.last))
            else:
                places.append((position, list(request.block_table), request.token_ids[position]))
            request.num_in_flight += 1
        self.last = TokenStep(scheduled, places)
        self.pending.append(self.last)
        return self.last

    def wait(self, launched: TokenStep) -> StepResult:
        for item in launched.scheduled:
            item.request.num_in_flight -= 1
        assert self.pending.popleft() is launched, "steps are waited for in their order"
        chosen: dict[Request, int] = {}
        for item, (position, table, source) in zip(launched.scheduled, launched.places, strict=True):
            request, memory = item.request, self.runner.memory.view(NUM_BLOCKS, BLOCK_SIZE)
            if isinstance(source, TokenStep):
                assert source.chosen is not None
                source = source.chosen[request]
            memory[table[position // BLOCK_SIZE], position % BLOCK_SIZE] = source
            cached = memory[table].flatten()[: position + 1].tolist()
            if request.block_table:  # it has not ended meanwhile
                assert cached == request.token_ids[: position + 1], "a sequence does not find its own tokens"
            chosen[request] = next_token(cached, request.seed)
        launched.chosen = chosen
        if self.runner.fails:
            self.runner.fails = False
            raise RuntimeError("told to fail")
        return StepResult(
            tokens=[(request, [Sampled(token, None)]) for request, token in chosen.items()], scores=[], hidden_states=[]
        )


class CoreMachine(RuleBasedStateMachine):
    """Requests come singly and in groups with one beginning, are aborted, fail, and finish."""

    @initialize(
        num_draft_tokens=st.sampled_from([0, 3]),
        max_num_prompt_tokens=st.sampled_from([None, 3]),
        has_graphs=st.booleans(),
    )
    def begin(self, num_draft_tokens: int, max_num_prompt_tokens: int | None, has_graphs: bool = False) -> None:
        self.pool = BlockPool(NUM_BLOCKS, BLOCK_SIZE)
        self.scheduler = Scheduler(
            self.pool,
            max_num_requests=MAX_REQUESTS,
            max_num_batched_tokens=BUDGET,
            max_num_prompt_tokens=max_num_prompt_tokens,
        )
        self.now = 0.0
        self.runner = TokenRunner()
        self.graphs = TokenGraphs(self.runner) if has_graphs else None
        if self.graphs is not None:
            pending = self.graphs.pending
            self.runner.is_alone = lambda: not pending
        self.core = EngineCore(
            self.runner,  # type: ignore[arg-type]
            self.scheduler,
            WithoutText(),
            eos_token_ids=(EOS,),
            num_draft_tokens=num_draft_tokens,
            graphs=self.graphs,  # type: ignore[arg-type]
            clock=lambda: self.now,
        )
        self.ids = iter(range(10**9))
        self.results: dict[int, Any] = {}
        self.expected: dict[int, Any] = {}
        self.aborted: set[int] = set()
        self.num_forgiven = 0

    def make(self, tokens: list[int], priority: Priority, **rest: Any) -> Request:
        request_id = next(self.ids)

        def deliver(event: Event) -> None:
            if isinstance(event, StreamChunk) and event.completion is None:
                return
            assert request_id not in self.results, "a request ended twice"
            self.results[request_id] = event

        return Request(
            request_id=request_id,
            token_ids=tokens,
            num_prompt_tokens=len(tokens),
            deliver=deliver,
            arrival_s=self.now,
            priority=priority,
            **rest,
        )

    def submit(self, requests: list[Request]) -> None:
        for request in with_trunks(requests, max_forks=MAX_REQUESTS, ids=self.ids):
            self.core.add(request)

    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=30),
        seeds=st.lists(st.integers(0, 2), min_size=1, max_size=6),
        max_tokens=st.integers(1, 10),
        priority=st.sampled_from(["interactive", "batch"]),
    )
    def answer(self, prompt: list[int], seeds: list[int], max_tokens: int, priority: Priority) -> None:
        requests = []
        for seed in seeds:
            request = self.make(list(prompt), priority, params=SamplingParams(), seed=seed, max_tokens=max_tokens)
            requests.append(request)
            answer: list[int] = []
            while len(answer) < max_tokens and EOS not in answer:
                answer.append(next_token(prompt + answer, seed))
            self.expected[request.request_id] = tuple(answer)
        self.submit(requests)

    @rule(
        context=st.lists(st.integers(0, 1), min_size=1, max_size=25),
        continuations=st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12), min_size=1, max_size=6),
        priority=st.sampled_from(["interactive", "batch"]),
    )
    def score(self, context: list[int], continuations: list[list[int]], priority: Priority) -> None:
        requests = []
        for continuation in continuations:
            tokens = context + continuation
            request = self.make(
                tokens[:-1], priority, targets=tuple(continuation), first_target_position=len(context) - 1
            )
            requests.append(request)
            self.expected[request.request_id] = tuple(
                logprob(tokens[:place], tokens[place]) for place in range(len(context), len(tokens))
            )
        self.submit(requests)

    @rule(prompt=st.lists(st.integers(0, 1), min_size=1, max_size=30))
    def hidden_state(self, prompt: list[int]) -> None:
        request = self.make(list(prompt), "batch", wants_hidden_state=True)
        self.expected[request.request_id] = tuple(prompt)
        self.submit([request])

    @precondition(lambda self: len(self.results) < len(self.expected))
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.expected.keys() - self.results.keys())))
        self.aborted.add(request_id)
        self.core.abort(request_id)
        assert request_id in self.results

    @precondition(lambda self: self.core.has_work)
    @rule()
    def fail(self) -> None:
        on_its_way = self.core._in_flight
        if on_its_way is not None and not any(item.request.block_table for item in on_its_way.scheduled):
            return  # nobody is left in it to fail
        self.runner.fails = True
        self.step()
        failed = {
            key for key, result in self.results.items() if isinstance(result, EngineError) and key not in self.aborted
        }
        assert failed
        self.aborted |= failed

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.core.has_work)
    @rule()
    def step(self) -> None:
        self.now += 0.01
        steps = self.core.metrics.num_steps
        failing = self.runner.fails
        self.core.step()
        assert failing or self.core.metrics.num_steps == steps + 1, "work is left but nothing was scheduled"

    @invariant()
    def blocks_are_conserved(self) -> None:
        if not hasattr(self, "pool"):
            return
        scheduler, pool = self.scheduler, self.pool
        held = {block for request in scheduler.running for block in request.block_table}
        assert len(held) + pool.num_free == pool.num_usable
        assert NULL_BLOCK not in held
        assert all(not request.block_table for request in scheduler.waiting)
        assert sum(request.num_slots for request in scheduler.running) <= MAX_REQUESTS
        for line in (scheduler.waiting, scheduler.running):
            assert [request.rank for request in line] == sorted(request.rank for request in line)

    @invariant()
    def results_are_right(self) -> None:
        for key, result in getattr(self, "results", {}).items():
            if key in self.aborted:
                continue
            if isinstance(result, StreamChunk):
                assert result.completion is not None
                assert result.completion.token_ids == self.expected[key]
            elif isinstance(result, TokenScore):
                assert result.logprobs == self.expected[key]
                assert result.is_greedy == tuple(token == 1 for token in result.token_ids)
            elif not self.runner.fails:
                assert result == self.expected[key]

    def teardown(self) -> None:
        """Whatever happened, what is left finishes: every step computes at least one token of the first in rank."""
        if not hasattr(self, "core"):
            return
        for _ in range(MAX_TOKENS * 4 * (len(self.expected) + 1)):
            if not self.core.has_work:
                break
            self.step()
            self.results_are_right()
        assert self.results.keys() == self.expected.keys()
        assert self.pool.num_free == self.pool.num_usable
        assert not self.core._requests
        assert not self.core._detokenizers


TestCore = CoreMachine.TestCase
TestCore.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_answers_are_computed_a_step_ahead() -> None:
    machine = CoreMachine()
    machine.begin(num_draft_tokens=0, max_num_prompt_tokens=None, has_graphs=True)
    assert machine.graphs is not None
    machine.answer([1] * 5, [1], 10, "interactive")
    machine.answer([1, 0, 1], [2, 1], 7, "interactive")
    while machine.core.has_work:
        machine.step()
    machine.results_are_right()
    assert len(machine.results) == 3
    assert machine.graphs.num_ahead > 3


class Setting:
    """A core with requests told apart by their prompts."""

    def __init__(self, **limits: Any) -> None:
        self.machine = CoreMachine()
        self.machine.begin(num_draft_tokens=limits.pop("num_draft_tokens", 0), max_num_prompt_tokens=None)
        for name, value in limits.items():
            setattr(self.machine.scheduler, name, value)


def test_a_shared_context_is_computed_once() -> None:
    machine = Setting().machine
    context = [1, 0, 1, 1, 0, 1, 0, 0, 1, 1]  # two blocks and a half
    machine.score(context, [[1, 2], [2], [3, 3, 1], [0, 1]], "batch")
    computed = 0
    while machine.core.has_work:
        for item in (scheduled := machine.scheduler.schedule()):
            computed += item.num_new_tokens
        machine.scheduler.schedule = lambda chosen=scheduled: chosen  # type: ignore[method-assign]
        machine.core.step()
        del machine.scheduler.schedule  # type: ignore[method-assign]
    machine.results_are_right()
    assert len(machine.results) == 4
    # the context, and of each continuation all tokens but the last, which predicts nothing
    assert computed == len(context) + 1 + 0 + 2 + 1
    stats = machine.core.stats()
    assert stats.num_cached_tokens == 3 * len(context)
    assert stats.num_prompt_tokens == 4 * len(context) + 1 + 0 + 2 + 1


def test_a_finished_answer_is_found_by_the_next_turn() -> None:
    machine = Setting().machine
    machine.answer([1] * 9, [1], 6, "interactive")
    while machine.core.has_work:
        machine.step()
    first = machine.results[0].completion
    machine.answer([1] * 9 + list(first.token_ids) + [1, 0, 1], [1], 3, "interactive")
    while machine.core.has_work:
        machine.step()
    second = next(result for key, result in machine.results.items() if key).completion
    # the last token of an answer is never computed, and only full blocks are kept
    assert second.num_cached_tokens == (9 + len(first.token_ids) - 1) // BLOCK_SIZE * BLOCK_SIZE
    machine.results_are_right()


def test_another_salt_shares_nothing() -> None:
    pool = BlockPool(8, 2)
    blocks = pool.allocate(1)
    assert blocks is not None
    pool.publish(blocks[0], pool.root("one"), (1, 2))
    assert pool.find(pool.root("one"), (1, 2)) is not None
    assert pool.find(pool.root("other"), (1, 2)) is None


def test_interactive_goes_before_batch_and_batch_is_not_starved() -> None:
    machine = Setting(max_num_requests=1).machine
    machine.answer([1] * 5, [1], 3, "batch")
    batch = next(iter(machine.expected))
    finished_after = None
    for turn in range(200):
        if not any(request.priority == "interactive" for request in machine.scheduler.waiting):
            machine.answer([0] * 5, [2], 8, "interactive")
        machine.step()
        machine.now += 0.2
        if batch in machine.results:
            finished_after = turn
            break
    assert finished_after is not None, "a batch request starved"
    assert machine.now > 30  # its patience: until then the others went first
    assert sum(key != batch for key in machine.results) > 5


def test_an_interactive_request_takes_the_place_of_a_batch_request() -> None:
    machine = Setting(max_num_requests=1).machine
    machine.answer([1, 0] * 10, [1], 10, "batch")
    machine.step()
    machine.answer([1, 1, 0], [1], 1, "interactive")
    machine.step()
    assert [request.priority for request in machine.scheduler.running] == []
    assert len(machine.results) == 1
    while machine.core.has_work:
        machine.step()
    machine.results_are_right()
    assert machine.core.stats().num_preemptions == 1


def test_drafts_save_steps_and_are_counted() -> None:
    def steps(num_draft_tokens: int) -> tuple[int, int, int]:
        machine = Setting(num_draft_tokens=num_draft_tokens).machine
        machine.answer([1, 2, 3] * 5, [0], 10, "interactive")
        while machine.core.has_work:
            machine.step()
        machine.results_are_right()
        stats = machine.core.stats()
        return stats.num_steps, stats.num_draft_tokens, stats.num_accepted_tokens

    plain, drafted = steps(0), steps(3)
    assert plain[1:] == (0, 0)
    assert drafted[0] < plain[0]
    assert 0 < drafted[2] <= drafted[1]


def test_failed_batches_end_their_requests_only() -> None:
    machine = Setting(max_num_requests=2).machine
    machine.score([1] * 9, [[1, 1], [2, 2]], "batch")
    machine.answer([1] * 3, [1], 2, "batch")
    machine.runner.fails = True
    machine.core.step()
    errors = [result for result in machine.results.values() if isinstance(result, EngineError)]
    assert len(errors) == 2  # the group takes both places
    assert "told to fail" in str(errors[0])
    machine.aborted |= {key for key, result in machine.results.items() if isinstance(result, EngineError)}
    while machine.core.has_work:
        machine.step()
    machine.results_are_right()
    assert len(machine.results) == 3


@pytest.mark.parametrize("caches", [True, False])
def test_a_pool_that_caches_nothing_finds_nothing(caches: bool) -> None:
    pool = BlockPool(8, 2, caches_prefixes=caches)
    blocks = pool.allocate(1)
    assert blocks is not None
    pool.publish(blocks[0], pool.root(""), (1, 2))
    assert (pool.find(pool.root(""), (1, 2)) is not None) is caches

"""Our engine, opened once a process: the gate, and then everything that is timed.

Random weights leave half of the neurons at 0, and the engine skips those where a step has few tokens. So what is
compared with a floor or a peer is `dense`: captured steps of the same engine that read all of the second matrix.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from evals.bench_engine import gate as gates
from evals.bench_engine.bench import Absent, Bench, GateFailed
from evals.bench_engine.sizes import gate_prompts, mixed_requests
from model.interface import SamplingParams
from model.open_engine import open_engine
from model.speed import costs, exact
from model.speed.clock import copy_bytes_per_s, product_flops_per_s
from model.speed.random_model import fingerprint, load_random
from model.speed.steps import bare_step_s, capture, decoding, dense_mlps, fill_cache, in_engine_thread, random_prompt
from model.speed.zeros import first_biases, restore_first_biases, set_zeros

if TYPE_CHECKING:
    from model.speed.steps import DecodeGraphs, LocalEngine

GPU_MEMORY = 0.8
"""Share of the GPU for weights, workspace and cache: the gate's float32 layers need room beside them."""
NO_GRAPHS = "no steps are captured: {note}"


@dataclass
class Ours:
    """An opened engine. graphs: its own captured steps; dense: those that skip nothing, the same where it never skips;
    seeds: of prompts that nobody has asked yet."""

    engine: LocalEngine
    costs: costs.Costs
    graphs: DecodeGraphs | None
    dense: DecodeGraphs | None
    seeds: Iterator[int] = field(default_factory=lambda: itertools.count(10_000))

    def close(self) -> None:
        self.engine.close()


def opened(bench: Bench) -> Ours:
    """The process's engine, opened when it is first asked for."""
    if "ours" in bench.kept:
        found: Ours = bench.kept["ours"]
        return found
    engine = open_engine(
        f"{bench.sizes.name}/{bench.model}",
        device=str(bench.device),
        dtype=str(bench.dtype).removeprefix("torch."),
        max_num_requests=bench.sizes.max_num_requests,
        gpu_memory_utilization=GPU_MEMORY,
        kv_cache_tokens=None if bench.device.type == "cuda" else 4096,
        kernels=bench.kernels,
        load=load_random,
    )
    core = engine._core
    core.scheduler.pool.caches_prefixes = False  # the same prompt is computed each time it is asked
    backend, most = (
        bench.backend,
        min(engine.info.context_length, core.scheduler.pool.num_usable * engine.info.block_size),
    )
    if core.graphs is None and backend is not None:  # a CPU's, in tests
        core.graphs = in_engine_thread(engine, lambda core: capture(core, backend=backend, max_tokens=most))
    model, graphs = core.runner.model, core.graphs
    dense = graphs
    if model.skips_zero_rows and graphs is not None and backend is not None:

        def capture_dense(core: Any) -> DecodeGraphs:
            with dense_mlps(model):
                return capture(core, backend=backend, max_tokens=most)

        dense = in_engine_thread(engine, capture_dense)
    ours = bench.kept["ours"] = Ours(engine, costs.costs_of(model), graphs, dense)
    return ours


@contextmanager
def replaying(ours: Ours, graphs: DecodeGraphs | None) -> Iterator[None]:
    """Let the engine replay these steps; `None`: none, every step is launched operation by operation."""
    before = ours.engine._core.graphs
    in_engine_thread(ours.engine, lambda core: setattr(core, "graphs", graphs))
    try:
        yield
    finally:
        in_engine_thread(ours.engine, lambda core: setattr(core, "graphs", before))


def roofs(bench: Bench) -> None:
    """What a copy and a product reach."""
    bench.say("copy", copy_bytes_per_s(bench.device), "bytes/s")
    bench.say("product", product_flops_per_s(bench.device, bench.dtype), "FLOP/s")
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    bench.say("datasheet", costs.datasheet_flops(name), "FLOP/s", problem=None if costs.datasheet_flops(name) else name)


def gate(bench: Bench) -> None:
    """Logits against float32 and Hugging Face, greedy tokens of every way of running against float32."""
    from evals.bench_engine.peers import hugging_face_logits

    sizes, first = bench.sizes, bench.sizes.gate_prompt // 2
    vocab_size = _vocab_size(bench)
    prompts = gate_prompts(sizes, vocab_size=vocab_size)
    theirs, their_weights = hugging_face_logits(bench, prompts[:2], first=first)
    ours = opened(bench)
    engine, runner = ours.engine, ours.engine._core.runner
    model, attention = runner.model, runner.attention
    weights = fingerprint(model.named_parameters())
    if weights != their_weights:
        raise GateFailed(f"Hugging Face's model has other weights: {their_weights}, and ours {weights}")
    bench.say("weights", None, "", more={"fingerprint": weights, "info": _facts(engine)})

    exactly = exact.float32_twin(model)
    definition = exact.reference_twin(model)
    device, dtype = bench.device, bench.dtype
    truth = [exact.logits(exactly, prompt, first=first, device=device, dtype=torch.float32) for prompt in prompts[:2]]
    plain = [exact.logits(definition, prompt, first=first, device=device, dtype=dtype) for prompt in prompts[:2]]
    mine = [
        exact.logits(model, prompt, first=first, device=device, dtype=dtype, attention=attention)
        for prompt in prompts[:2]
    ]
    measure, sigma = gates.relative_error(plain, truth), gates.deviation(mine, truth)
    errors = {
        "our kernels": gates.relative_error(mine, truth),
        "Hugging Face": gates.relative_error([each.to(device) for each in theirs], truth),
    }
    bench.say("error of the definition", measure, "relative")
    for name, error in errors.items():
        bench.say(f"error of {name}", error, "relative", roof=gates.LOGITS_FACTOR * measure + gates.EXACT)
    gates.check_logits(errors, measure=measure)

    params = SamplingParams(max_tokens=sizes.gate_answer, temperature=0.0, ignore_eos=True)

    def answers(together: bool) -> list[tuple[int, ...]]:
        if together:
            return [one.token_ids for one in engine.generate(prompts, params)]
        return [engine.generate([prompt], params)[0].token_ids for prompt in prompts]

    found = {"together": answers(True), "alone": answers(False)}
    with replaying(ours, None):
        if ours.graphs is not None:
            found["without graphs, together"] = answers(True)
            found["without graphs, alone"] = answers(False)
    if ours.dense is not ours.graphs:
        with replaying(ours, ours.dense):
            found["dense, together"] = answers(True)
    bench.say("answers", None, "", more={"token_ids": [list(answer) for answer in found["together"]]})
    worst = {
        name: max(
            gates.shortfall(
                exact.logits(
                    exactly, [*prompt, *answer[:-1]], first=len(prompt) - 1, device=device, dtype=torch.float32
                ),
                answer,
            )
            for prompt, answer in zip(prompts, tokens, strict=True)
        )
        for name, tokens in found.items()
    }
    for name, value in worst.items():
        bench.say(
            f"shortfall {name}",
            value,
            "logits",
            roof=gates.TIE_FACTOR * sigma + gates.EXACT,
            more={"differing": gates.num_differing(tokens := found[name], found["together"]), "answers": len(tokens)},
        )
    gates.check_tokens(worst, sigma=sigma)


def decode(bench: Bench) -> None:
    """Steps through the engine and alone, against the time to read what they must."""
    ours = opened(bench)
    in_engine_thread(ours.engine, fill_cache)
    for batch, context in bench.sizes.decode:
        floor = ours.costs.step_bytes(batch=batch, context=context) / bench.copy_bytes_per_s()
        _engine_step(bench, ours, batch, context, floor, graphs=ours.dense, name="step")
        _bare_step(bench, ours, batch, context, floor)


def no_graphs(bench: Bench) -> None:
    """The same steps launched operation by operation."""
    ours = opened(bench)
    if ours.graphs is None:
        raise Absent(NO_GRAPHS.format(note=ours.engine.info.graph_note))
    for batch, context in bench.sizes.decode[:2]:
        with replaying(ours, ours.graphs):
            _engine_step(bench, ours, batch, context, None, graphs=ours.graphs, name="step with graphs")
        _engine_step(bench, ours, batch, context, None, graphs=None, name="step without graphs")


def grid(bench: Bench) -> None:
    """Captured steps alone at every batch size and context that fit."""
    ours = opened(bench)
    if ours.dense is None:
        raise Absent(NO_GRAPHS.format(note=ours.engine.info.graph_note))
    in_engine_thread(ours.engine, fill_cache)
    for context in bench.sizes.grid_contexts:
        for batch in bench.sizes.grid_batches:
            floor = ours.costs.step_bytes(batch=batch, context=context) / bench.copy_bytes_per_s()
            _bare_step(bench, ours, batch, context, floor)


def sparse(bench: Bench) -> None:
    """Captured steps with a stated share of zeros, skipping and not, and what the counter found."""
    ours = opened(bench)
    engine, core = ours.engine, ours.engine._core
    model, live_rows = core.runner.model, core.runner.live_rows
    if live_rows is None:
        raise Absent(f"nothing is skipped here: {engine.info.kernels_choice}")
    if ours.graphs is None or ours.dense is None:
        raise Absent(NO_GRAPHS.format(note=engine.info.graph_note))
    skipping, dense = ours.graphs, ours.dense
    in_engine_thread(engine, fill_cache)
    context, num_steps = bench.sizes.short[1], bench.sizes.bare_steps
    biases = first_biases(model)
    try:
        for share in bench.sizes.zeros:
            in_engine_thread(engine, functools.partial(_set_zeros, share))
            _check_sparse(bench, ours)
            for batch in bench.sizes.sparse_batches:

                def measure(core: Any, batch: int = batch) -> tuple[float, float, float]:
                    def bare(graphs: DecodeGraphs) -> float:
                        return bare_step_s(core, graphs, batch=batch, context=context, num_steps=num_steps)

                    live_rows.forget()
                    sparse_s = bare(skipping)
                    live, rows = live_rows.now()
                    return sparse_s, bare(dense), live / rows

                sparse_s, dense_s, live = in_engine_thread(engine, measure)
                expected = 1 - share**batch
                problem = None
                if batch == 1 and abs(live - expected) > bench.sizes.zeros_tolerance:
                    problem = f"{live:.3f} of the rows were live where {expected:.3f} should be"
                bench.say(
                    f"zeros {share}",
                    None if problem else sparse_s,
                    "s",
                    batch=batch,
                    context=context,
                    problem=problem,
                    more={"dense_s": dense_s, "live": live, "live_if_independent": expected},
                )
    finally:
        in_engine_thread(engine, lambda core: restore_first_biases(model, biases))


def _set_zeros(share: float, core: Any) -> None:
    set_zeros(core.runner.model, share)


def prefill(bench: Bench) -> None:
    """Prompts alone, to their first token."""
    ours = opened(bench)
    peak = _datasheet(bench) or bench.product_flops_per_s()
    for length in bench.sizes.prompts:
        times = [_first_token_s(ours, length) for _ in range(3)][1:]  # the first compiles
        seconds = min(times)
        flops = ours.costs.prompt_flops(length)
        bench.say(
            "prompt",
            seconds,
            "s",
            context=length,
            roof=flops / peak,
            more={
                "flops": flops,
                "bytes": ours.costs.step_bytes(batch=1, context=length),
                "of_product": flops / seconds / bench.product_flops_per_s(),
            },
        )


def ttft(bench: Bench) -> None:
    """Short prompts, to their first token, with nothing else running."""
    ours = opened(bench)
    for length in sorted(bench.sizes.prompts)[:2]:
        times = [_first_token_s(ours, length) for _ in range(bench.sizes.ttft_repeats + 1)][1:]
        bench.say("first token", statistics.median(times), "s", context=length, more={"runs": times})


def mixed(bench: Bench) -> None:
    """Many requests of unlike lengths, all handed in at once."""
    ours = opened(bench)
    vocab_size = ours.engine.info.vocab_size
    warm_up = mixed_requests(bench.sizes, vocab_size=vocab_size, seed=0)[: max(2, bench.sizes.mixed // 8)]
    _answer(ours, warm_up)
    requests = mixed_requests(bench.sizes, vocab_size=vocab_size, seed=1)
    seconds = _answer(ours, requests)
    generated = sum(count for _, count in requests)
    bench.say(
        "throughput",
        generated / seconds,
        "tokens/s",
        batch=len(requests),
        more={"seconds": seconds, "generated": generated, "prompt_tokens": sum(len(prompt) for prompt, _ in requests)},
    )


def other_model(bench: Bench) -> None:
    """Llama or MPT: the gate, then one answer against its floor."""
    gate(bench)
    decode_one = opened(bench)
    in_engine_thread(decode_one.engine, fill_cache)
    batch, context = bench.sizes.short
    floor = decode_one.costs.step_bytes(batch=batch, context=context) / bench.copy_bytes_per_s()
    _engine_step(bench, decode_one, batch, context, floor, graphs=decode_one.dense, name="step")
    _bare_step(bench, decode_one, batch, context, floor)


def _answer(ours: Ours, requests: Sequence[tuple[list[int], int]]) -> float:
    params = [SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True) for _, count in requests]
    begin = time.perf_counter()
    completions = ours.engine.generate([prompt for prompt, _ in requests], params, priority="batch")
    seconds = time.perf_counter() - begin
    assert [len(one.token_ids) for one in completions] == [count for _, count in requests]
    return seconds


def _first_token_s(ours: Ours, length: int) -> float:
    prompt = random_prompt(length, vocab_size=ours.engine.info.vocab_size, seed=next(ours.seeds))
    [completion] = ours.engine.generate([prompt], SamplingParams(max_tokens=1, temperature=0.0))
    assert completion.timing.ttft_s is not None
    return completion.timing.ttft_s


def _engine_step(
    bench: Bench, ours: Ours, batch: int, context: int, floor: float | None, *, graphs: DecodeGraphs | None, name: str
) -> None:
    """Through the engine, with the context growing to as much beyond `context` as it began below."""
    num_tokens = bench.sizes.decode_tokens
    length = max(4, context - num_tokens // 2)
    if batch * (length + num_tokens) > ours.engine._core.scheduler.pool.num_usable * ours.engine.info.block_size:
        bench.say(name, None, "s", batch=batch, context=context, problem="it does not fit the cache")
        return
    vocab_size = ours.engine.info.vocab_size
    prompts = [random_prompt(length, vocab_size=vocab_size, seed=next(ours.seeds)) for _ in range(batch)]
    with replaying(ours, graphs):
        found = decoding(ours.engine, prompts, num_tokens=num_tokens)
    more = {"p95_s": found.p95_s, "num_steps": found.num_steps}
    bench.say(name, found.median_s, "s", batch=batch, context=context, roof=floor, more=more)


def _bare_step(bench: Bench, ours: Ours, batch: int, context: int, floor: float) -> None:
    graphs = ours.dense
    if graphs is None:
        problem = NO_GRAPHS.format(note=ours.engine.info.graph_note)
        bench.say("bare step", None, "s", batch=batch, context=context, problem=problem)
        return
    try:
        seconds = in_engine_thread(
            ours.engine,
            lambda core: bare_step_s(core, graphs, batch=batch, context=context, num_steps=bench.sizes.bare_steps),
        )
    except ValueError as error:
        bench.say("bare step", None, "s", batch=batch, context=context, problem=str(error))
        return
    more = {
        "flops": batch * ours.costs.token_flops(context),
        "bytes": ours.costs.step_bytes(batch=batch, context=context),
    }
    bench.say("bare step", seconds, "s", batch=batch, context=context, roof=floor, more=more)


def _check_sparse(bench: Bench, ours: Ours) -> None:
    """Skipping must give what reading everything gives, with these biases too."""
    runner = ours.engine._core.runner
    prompt = random_prompt(8, vocab_size=ours.engine.info.vocab_size, seed=77)  # as many tokens as are skipped for
    options: dict[str, Any] = {"first": 0, "device": bench.device, "dtype": bench.dtype, "attention": runner.attention}
    skipped = exact.logits(runner.model, prompt, **options)
    with dense_mlps(runner.model):
        whole = exact.logits(runner.model, prompt, **options)
    truth = exact.logits(exact.float32_twin(runner.model), prompt, first=0, device=bench.device, dtype=torch.float32)
    gates.check_logits(
        {"the sparse MLP": gates.relative_error([skipped], [truth])}, measure=gates.relative_error([whole], [truth])
    )


def _vocab_size(bench: Bench) -> int:
    from model.speed.shapes import shape_of

    return int(shape_of(f"{bench.sizes.name}/{bench.model}")[1]["vocab_size"])


def _datasheet(bench: Bench) -> float | None:
    found = bench.earlier["roofs"].figure("datasheet")
    return None if found is None else found.value


def _facts(engine: LocalEngine) -> dict[str, Any]:
    info = engine.info
    return {
        "attention": info.attention_choice,
        "kernels": info.kernels_choice,
        "graphs": info.graph_note or f"{len(info.graph_batch_sizes)} batch sizes",
        "graph_capture_s": info.graph_capture_s,
        "graph_bytes": info.graph_bytes,
        "kv_cache_tokens": (info.num_blocks - 1) * info.block_size,
        "num_parameters": info.num_parameters,
    }

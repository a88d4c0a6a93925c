"""Hugging Face on the same weights: `generate`, `generate` with a static cache and torch.compile, continuous batching.

Its model is filled by the function that fills ours, in a process of its own; with another fingerprint it is refused.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from evals.bench_engine import gate as gates
from evals.bench_engine.bench import Absent, Bench, GateFailed
from evals.bench_engine.sizes import gate_prompts, mixed_requests
from model.speed.random_model import fill, fingerprint
from model.speed.shapes import shape_of
from model.speed.steps import random_prompt

ATTENTION = {"persimmon-8b": "sdpa", "llama-2-7b": "sdpa", "mpt-7b": "eager"}  # MPT's has nothing else
WAIT_S = 300.0
CPU_CACHE = {"num_blocks": 64, "max_batch_tokens": 1024}
"""Of `generate_batch`, where nothing is measured but that it runs."""


def new_model(bench: Bench) -> Any:
    """transformers' model of the section's shape with our random weights, on the device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    _, config = shape_of(f"{bench.sizes.name}/{bench.model}")
    settings = {key: value for key, value in config.items() if key != "model_type"}
    hugging_face = AutoConfig.for_model(config["model_type"], **settings)
    with torch.device(bench.device):
        model: Any = AutoModelForCausalLM.from_config(
            hugging_face, dtype=bench.dtype, attn_implementation=ATTENTION[bench.model]
        )
    model = model.eval().requires_grad_(False)
    model.tie_weights()
    fill(model.named_parameters())
    model.generation_config.eos_token_id = None  # go on past the end of a document
    model.generation_config.pad_token_id = 0
    return model


@torch.inference_mode()
def hugging_face_logits(bench: Bench, prompts: Sequence[Sequence[int]], *, first: int) -> tuple[list[Tensor], str]:
    """Logits of the positions from `first` on, float32 in the host's memory, and the weights' fingerprint. The model is
    gone afterwards."""
    model = new_model(bench)
    found = [model(torch.tensor([prompt], device=bench.device)).logits[0, first:].float().cpu() for prompt in prompts]
    weights = fingerprint(model.named_parameters())
    del model
    gc.collect()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    return found, weights


def opened(bench: Bench) -> Any:
    """The process's model."""
    if "peer" not in bench.kept:
        model = new_model(bench)
        gate = bench.earlier["gate"]
        [ours] = [figure.more["fingerprint"] for figure in gate.figures if figure.name == "weights"]
        if (weights := fingerprint(model.named_parameters())) != ours:
            raise GateFailed(f"Hugging Face's model has other weights: {weights}, and ours {ours}")
        bench.kept["peer"] = model
    return bench.kept["peer"]


@torch.inference_mode()
def check_answers(bench: Bench, model: Any) -> None:
    """Compare the greedy answers of the gate's prompts. One of ours that differs from Hugging Face's must be greedy by
    its logits too, to within a tie: they differ from the truth as much as ours do, so twice the gate's tie is one.

    Raises:
        GateFailed: one is not.
    """
    figures = {figure.name: figure for figure in bench.earlier["gate"].figures}
    ours, tie = figures["answers"].more["token_ids"], figures["shortfall together"].roof
    assert tie is not None
    prompts = gate_prompts(bench.sizes, vocab_size=model.config.vocab_size)
    differing, worst = 0, 0.0
    for prompt, answer in zip(prompts, ours, strict=True):
        input_ids = torch.tensor([prompt], device=bench.device)
        found = model.generate(
            input_ids, attention_mask=torch.ones_like(input_ids), max_new_tokens=len(answer), do_sample=False
        )
        if found[0, len(prompt) :].tolist() != answer:
            differing += 1
            logits = model(torch.tensor([[*prompt, *answer[:-1]]], device=bench.device)).logits[0, len(prompt) - 1 :]
            worst = max(worst, gates.shortfall(logits.float(), answer))
    bench.say(
        "shortfall by Hugging Face", worst, "logits", roof=2 * tie, more={"differing": differing, "answers": len(ours)}
    )
    if not worst <= 2 * tie:
        raise GateFailed(f"a token of ours is {worst:.3g} below Hugging Face's best, and {2 * tie:.3g} is a tie")


def eager(bench: Bench) -> None:
    """`generate` as it is, whose answers must be ours: one answer at a time, and eight."""
    model = opened(bench)
    check_answers(bench, model)
    for batch, context in (bench.sizes.short, (8, bench.sizes.short[1])):
        bench.say("step", _token_s(bench, model, batch, context), "s", batch=batch, context=context)


def compiled(bench: Bench) -> None:
    """`generate` with a static cache, for which transformers compiles the decoding step."""
    if bench.device.type != "cuda":
        raise Absent("transformers compiles decoding on a GPU alone")
    model = opened(bench)
    batch, context = bench.sizes.short
    seconds = _token_s(bench, model, batch, context, cache_implementation="static")
    bench.say("step", seconds, "s", batch=batch, context=context)


def batched(bench: Bench) -> None:
    """Continuous batching, as `generate_batch` runs it, on the same mixed requests as ours."""
    from transformers import GenerationConfig

    model = opened(bench)
    if not hasattr(model, "continuous_batching_context_manager"):
        raise Absent("this version of transformers has no continuous batching")
    vocab_size = model.config.vocab_size
    settings = GenerationConfig(
        do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=bench.sizes.mixed_answers[1]
    )
    warm_up = mixed_requests(bench.sizes, vocab_size=vocab_size, seed=0)[: max(2, bench.sizes.mixed // 8)]
    requests = mixed_requests(bench.sizes, vocab_size=vocab_size, seed=1)
    options: dict[str, Any] = {"generation_config": settings, "block": True, "timeout": 5}
    if bench.device.type == "cpu":  # where its cache would take most of the memory, and be written whole
        from transformers import ContinuousBatchingConfig

        options["continuous_batching_config"] = ContinuousBatchingConfig(**CPU_CACHE)
    with model.continuous_batching_context_manager(**options) as manager:
        _answer(manager, warm_up)
        seconds = _answer(manager, requests)
    generated = sum(count for _, count in requests)
    bench.say(
        "throughput", generated / seconds, "tokens/s", batch=len(requests),
        more={"seconds": seconds, "generated": generated},
    )  # fmt: skip


class StopAt(StoppingCriteria):  # type: ignore[misc]
    """Ends `generate` when its rows have so many tokens."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), input_ids.shape[1] >= self.num_tokens, device=input_ids.device)


def _answer(manager: Any, requests: Sequence[tuple[list[int], int]]) -> float:
    """Hand in all requests at once and wait for the last.

    Raises:
        RuntimeError: one failed, has another length than asked for, or none comes any more.
    """
    wanted = {}
    begin = time.perf_counter()
    for prompt, count in requests:
        wanted[manager.add_request(prompt, max_new_tokens=count)] = count
    left = dict(wanted)
    while left:
        if time.perf_counter() - begin > WAIT_S:
            raise RuntimeError(f"{len(left)} of {len(requests)} answers had not come after {WAIT_S:.0f} s")
        result = manager.get_result(timeout=1)
        if result is None:
            if not manager.is_running():
                raise RuntimeError("its loop ended before the last answer")
            continue
        if result.error is not None:
            raise RuntimeError(f"a request failed: {result.error}")
        if result.is_finished() and result.request_id in left:
            if len(result.generated_tokens) != left[result.request_id]:
                raise RuntimeError(
                    f"an answer has {len(result.generated_tokens)} tokens, and {left[result.request_id]} were asked for"
                )
            del left[result.request_id]
    return time.perf_counter() - begin


def _token_s(bench: Bench, model: Any, batch: int, context: int, **options: Any) -> float:
    """Time of one token of each answer: that of a long answer less that of a short one, over the tokens between."""
    few, many = bench.sizes.peer_tokens
    length = max(4, context - many // 2)
    vocab_size = model.config.vocab_size
    prompts = [random_prompt(length, vocab_size=vocab_size, seed=index) for index in range(batch)]
    input_ids = torch.tensor(prompts, device=bench.device)

    def seconds(count: int) -> float:
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
        begin = time.perf_counter()
        answer = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=many,  # always: a static cache of another size would be compiled for again
            stopping_criteria=[StopAt(length + count)],
            do_sample=False,
            **options,
        )
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
        if answer.shape[1] != length + count:
            raise RuntimeError(f"{answer.shape[1] - length} tokens came, and {count} were asked for")
        return time.perf_counter() - begin

    for count in (many, few, many):  # compiles
        seconds(count)
    return statistics.median((seconds(many) - seconds(few)) / (many - few) for _ in range(3))

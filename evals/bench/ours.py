"""One run of our engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evals.bench.lm_requests import answer_instances, score_instances
from evals.bench.runs import Answers, Run, timed
from evals.bench.workloads import AnswerRequest, DecodeRequest, DecodeWork, ScoreRequest, ScoreWork, Work
from evals.engine_lm import EngineLM
from model.interface import Completion, Engine, SamplingParams
from model.open_engine import open_engine


class RecordingEngine:
    """An engine that also keeps what it generated: lm-eval's interface gives back texts alone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answers: dict[tuple[int, ...], tuple[int, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def agenerate(self, prompts: Sequence[Any], params: Any, **options: Any) -> list[Completion]:
        completions = await self._engine.agenerate(prompts, params, **options)
        for prompt, completion in zip(prompts, completions, strict=True):
            self._answers[tuple(prompt)] = completion.token_ids
        return completions

    def answer_to(self, prompt: Sequence[int]) -> tuple[int, ...]:
        return self._answers[tuple(prompt)]


def run(checkpoint: str, work: Work) -> Run:
    """Open the engine with its defaults (but for the KV cache, which has the work's size), warm up, and time the
    work."""
    engine = open_engine(checkpoint, device="cpu", dtype="float32", kv_cache_tokens=work.kv_cache_tokens)
    try:
        if isinstance(work, DecodeWork):
            return timed(lambda: _decode(engine, work.warm_up), lambda: _decode(engine, work.requests))
        recording: Any = RecordingEngine(engine)
        lm = EngineLM(recording, progress=False)
        if isinstance(work, ScoreWork):
            return timed(lambda: _score(lm, work.warm_up), lambda: _score(lm, work.requests))
        done = timed(lambda: _answer(lm, work.warm_up), lambda: _answer(lm, work.requests))
        token_ids = tuple(recording.answer_to(_prompt(lm, request)) for request in work.requests)
        return replace(done, answers=replace(done.answers, token_ids=token_ids))
    finally:
        engine.close()


def _decode(engine: Engine, requests: Sequence[DecodeRequest]) -> Answers:
    params = [
        SamplingParams(max_tokens=request.max_tokens, temperature=0.0, ignore_eos=True, seed=0) for request in requests
    ]
    completions = engine.generate([request.prompt_token_ids for request in requests], params)
    return Answers(token_ids=tuple(completion.token_ids for completion in completions))


def _score(lm: EngineLM, requests: Sequence[ScoreRequest]) -> Answers:
    return Answers(scores=tuple(lm.loglikelihood(score_instances(requests), disable_tqdm=True)))


def _answer(lm: EngineLM, requests: Sequence[AnswerRequest]) -> Answers:
    return Answers(texts=tuple(lm.generate_until(answer_instances(requests), disable_tqdm=True)))


def _prompt(lm: EngineLM, request: AnswerRequest) -> list[int]:
    """The prompt as `EngineLM.generate_until` sends it, cut where it does not fit."""
    return lm.tok_encode(request.prompt)[-(lm.max_length - request.max_tokens) :]

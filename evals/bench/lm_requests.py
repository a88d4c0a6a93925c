"""Requests in lm-eval's own form, the same for both sides."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval.api.instance import Instance

from evals.bench.workloads import AnswerRequest, ScoreRequest


def score_instances(requests: Sequence[ScoreRequest]) -> list[Instance]:
    """For `loglikelihood`."""
    return [
        Instance(request_type="loglikelihood", doc={}, arguments=(request.context, request.continuation), idx=0)
        for request in requests
    ]


def answer_instances(requests: Sequence[AnswerRequest]) -> list[Instance]:
    """For `generate_until`, with the options of `adept_arc_easy`."""
    return [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(request.prompt, {"until": [], "do_sample": False, "max_gen_toks": request.max_tokens}),
            idx=0,
        )
        for request in requests
    ]

"""One run of lm-eval's own `hf` backend: fp32, its settings as they are but for batch size and attention."""

from __future__ import annotations

from typing import Any

from lm_eval.models.huggingface import HFLM

from evals.bench.hugging_face import touch
from evals.bench.lm_requests import answer_instances, score_instances
from evals.bench.runs import Answers, Run, timed
from evals.bench.settings import Choices, Setting
from evals.bench.tuning import tune
from evals.bench.workloads import AnswerWork, ScoreWork

NAME = "lm-eval hf"


def load(checkpoint: str, setting: Setting) -> Any:
    """The backend. Persimmon's prompts have no BOS."""
    lm = HFLM(
        pretrained=checkpoint,
        device="cpu",
        dtype="float32",
        batch_size=setting.batch_size,
        add_bos_token=False,
        attn_implementation=setting.attention,
    )
    touch(lm.model)
    return lm


def run(checkpoint: str, work: ScoreWork | AnswerWork, setting: Setting) -> Run:
    """Load, warm up, and time the work."""
    lm = load(checkpoint, setting)
    if isinstance(work, ScoreWork):
        return timed(
            lambda: lm.loglikelihood(score_instances(work.warm_up), disable_tqdm=True),
            lambda: Answers(scores=tuple(lm.loglikelihood(score_instances(work.requests), disable_tqdm=True))),
        )
    return timed(
        lambda: lm.generate_until(answer_instances(work.warm_up), disable_tqdm=True),
        lambda: Answers(texts=tuple(lm.generate_until(answer_instances(work.requests), disable_tqdm=True))),
    )


def tried(checkpoint: str, work: ScoreWork | AnswerWork, choices: Choices) -> dict[Setting, float]:
    """Every setting's time, in one process."""
    return tune(lambda setting: run(checkpoint, work, setting).seconds, choices)

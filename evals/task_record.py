"""From what lm-eval logged and the engine reported to one task's part of the run record."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from evals.data import content_sha256
from evals.engine_lm import EngineLM, RequestFacts
from evals.record import TaskRecord

Sample: TypeAlias = Mapping[str, Any]  # one entry of lm-eval's logged samples


def record_task(task: Any, samples: Sequence[Sample], lm: EngineLM) -> TaskRecord:
    """The record of one lm-eval task that `lm` has just run.

    Args:
        task: the `ConfigurableTask`, with its instances.
        samples: as lm-eval logged them, before it saved them.
    """
    name = task.config.task
    metadata = task.config.metadata
    facts = [fact for fact in lm.facts if fact.task == name]
    answers = read_answers(samples)
    common = Counter(answers).most_common(1)
    tokens = sum(fact.num_prompt_tokens + fact.num_answer_tokens for fact in facts)
    seconds = lm.seconds[name]
    generative = task.OUTPUT_TYPE == "generate_until"
    chances = [1 / len(s["doc"]["choices"]["label"]) for s in samples if "choices" in s["doc"]]
    return TaskRecord(
        task=name,
        version=str(task.VERSION),
        form="generative" if generative else "likelihood",
        shots=metadata["shots"],
        num_scored=len(samples),
        num_available=len(task.eval_docs),
        correct={metric: round(sum(sample[metric] for sample in samples)) for metric in metadata["scores"]},
        unreadable=round(sum(sample["unreadable"] for sample in samples)) if generative else None,
        truncated=count_truncated(samples, facts) if generative else None,
        cut_prompts=sum(fact.prompt_cut for fact in facts),
        merged=sum(fact.merged for fact in facts),
        failed=sum(fact.failed for fact in facts),
        chance=sum(chances) / len(chances) if chances else None,
        common_answer=common[0][0] if common else None,
        common_share=common[0][1] / len(answers) if common else None,
        generation=dict(task.config.generation_kwargs) if generative else None,
        prompts_sha256=hash_prompts(task.instances),
        items_sha256=content_sha256(sample["doc"] for sample in samples),
        prompt_tokens=sum(fact.num_prompt_tokens for fact in facts),
        answer_tokens=sum(fact.num_answer_tokens for fact in facts),
        seconds=round(seconds, 3),
        tokens_per_s=round(tokens / seconds, 1) if seconds > 0 else None,
    )


def read_answers(samples: Sequence[Sample]) -> list[str]:
    """What the model chose for each item: the answer its task read, or the label of the likeliest choice."""
    answers = []
    for sample in samples:
        if "answer" in sample:
            answers.append(str(sample["answer"]))
        else:
            scores = [loglikelihood for loglikelihood, _ in sample["filtered_resps"]]
            answers.append(sample["doc"]["choices"]["label"][scores.index(max(scores))])
    return answers


def count_truncated(samples: Sequence[Sample], facts: Sequence[RequestFacts]) -> int:
    """Answers that reached the token limit before they ended: the task's filter found nothing to cut off."""
    limited = {fact.doc_id for fact in facts if fact.finish_reason == "length"}
    return sum(
        sample["doc_id"] in limited and sample["filtered_resps"][0] == sample["resps"][0][0] for sample in samples
    )


def hash_prompts(instances: Sequence[Any]) -> str:
    """SHA-256 over every text sent (prompt, and continuation where there is one), in order."""
    digest = hashlib.sha256()
    for instance in instances:
        texts = [argument for argument in instance.args if isinstance(argument, str)]
        digest.update(json.dumps(texts, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()

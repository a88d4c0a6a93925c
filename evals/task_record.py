"""From the items of a task and what its requests cost to its part of the run record."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from evals.data import content_sha256
from evals.item_record import ItemRecord, Sample
from evals.models import RecordedLM
from evals.record import TaskRecord
from evals.suites import benchmark_of


def record_task(task: Any, samples: Sequence[Sample], items: Sequence[ItemRecord], lm: RecordedLM) -> TaskRecord:
    """The record of one lm-eval task that `lm` has just run.

    Args:
        task: the `ConfigurableTask`, with its instances.
        samples: as lm-eval logged them, before it saved them. items: of the same task.
    """
    name = task.config.task
    metadata = task.config.metadata
    facts = [fact for fact in lm.facts if fact.task == name]
    scored = [item for item in items if not item.failed]
    runs_code = bool(metadata.get("runs_code"))
    # A program's answer is its outcome: that all pass, or none, is the score itself.
    common = [] if runs_code else Counter(item.answer for item in scored).most_common(1)
    tokens = sum(fact.num_prompt_tokens + fact.num_answer_tokens for fact in facts)
    seconds, resumed = lm.seconds[name], lm.num_resumed[name]
    timed = seconds > 0 and not resumed
    generative = task.OUTPUT_TYPE == "generate_until"
    chances = [1 / len(sample["doc"]["choices"]["label"]) for sample in samples if "choices" in sample["doc"]]
    says_unreadable = any("unreadable" in sample for sample in samples)
    return TaskRecord(
        task=name,
        benchmark=benchmark_of(name),
        version=str(task.VERSION),
        form="generative" if generative else "likelihood",
        shots=metadata["shots"],
        num_scored=len(scored),
        num_available=len(task.eval_docs),
        correct={metric: sum(item.scores[metric] == 1 for item in scored) for metric in metadata["scores"]},
        clusters=_clusters(scored, metadata["scores"][0]),
        unreadable=sum(item.unreadable for item in scored) if says_unreadable else None,
        truncated=sum(item.truncated for item in scored) if generative else None,
        outcomes=dict(sorted(Counter(str(item.outcome) for item in items).items())) if runs_code else None,
        suspicious=sum(bool(item.suspicions) and item.answer == "passed" for item in items) if runs_code else None,
        cut_prompts=len({fact.doc_id for fact in facts if fact.prompt_cut}),
        merged=len({fact.doc_id for fact in facts if fact.merged}),
        failed=sum(item.failed for item in items),
        chance=sum(chances) / len(chances) if chances else None,
        common_answer=common[0][0] if common else None,
        common_share=common[0][1] / len(scored) if common else None,
        generation=dict(task.config.generation_kwargs) if generative else None,
        prompts_sha256=hash_prompts(task.instances),
        items_sha256=content_sha256(sample["doc"] for sample in samples),
        prompt_tokens=sum(fact.num_prompt_tokens for fact in facts),
        answer_tokens=sum(fact.num_answer_tokens for fact in facts),
        num_resumed=resumed,
        seconds=round(seconds, 3),
        tokens_per_s=round(tokens / seconds, 1) if timed else None,
        items_per_s=round(len(samples) / seconds, 2) if timed else None,
    )


def _clusters(items: Sequence[ItemRecord], metric: str) -> dict[str, list[int]] | None:
    if not items or any(item.cluster is None for item in items):
        return None
    found: dict[str, list[int]] = {}
    for item in items:
        counts = found.setdefault(str(item.cluster), [0, 0])
        counts[0] += item.scores[metric] == 1
        counts[1] += 1
    return dict(sorted(found.items()))


def hash_prompts(instances: Sequence[Any]) -> str:
    """SHA-256 over every text sent (prompt, and continuation where there is one), in order."""
    digest = hashlib.sha256()
    for instance in instances:
        texts = [argument for argument in instance.args if isinstance(argument, str)]
        digest.update(json.dumps(texts, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()

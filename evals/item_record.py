"""One line an item: what was asked, what came, and whether it was right. For comparing models and for browsing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from evals.answers import RequestFacts
from evals.errors import EvaluationError

Sample: TypeAlias = Mapping[str, Any]  # one entry of lm-eval's logged samples


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemRecord:
    """One item of one task.

    Attributes:
        task, item_id, doc_id: which; doc_id is its place in the task. cluster: what it shares with others, such as its
            subject.
        prompt: as it was sent; of a likelihood task, with the right choice's text at its end.
        output: what the model wrote; of a likelihood task, each choice's log-probability.
        answer: what was read from it. gold: what is right.
        scores: by metric, 1 if right, else 0; empty if the item failed.
        unreadable, truncated, failed: see `evals.record.TaskRecord`. error: why it failed.
        outcome, message, suspicions: of a program; `None` and empty for others.
    """

    task: str
    item_id: str
    doc_id: int
    cluster: str | None
    prompt: str
    output: str
    answer: str
    gold: str
    scores: dict[str, float]
    unreadable: bool
    truncated: bool
    failed: bool
    error: str | None
    outcome: str | None
    message: str | None
    suspicions: tuple[str, ...]


def item_records(task: Any, samples: Sequence[Sample], facts: Sequence[RequestFacts]) -> list[ItemRecord]:
    """The items of one lm-eval task that has just run.

    Args:
        task: the `ConfigurableTask`.
        samples: as lm-eval logged them, before it saved them.
        facts: of the task's requests.
    """
    metrics = task.config.metadata["scores"]
    errors = {fact.doc_id: fact.error for fact in facts if fact.failed}
    limited = {fact.doc_id for fact in facts if fact.finish_reason == "length"}
    records = []
    for sample in samples:
        doc, doc_id = sample["doc"], sample["doc_id"]
        generated = task.OUTPUT_TYPE == "generate_until"
        result = sample["filtered_resps"][0]
        program = result if generated and isinstance(result, Mapping) else None
        error = errors.get(doc_id)
        if error is None and sample.get("item_failed"):
            error = f"the program could not be run ({program['message'] if program else ''})"
        raw = sample["resps"][0][0]
        records.append(
            ItemRecord(
                task=task.config.task,
                item_id=doc["id"],
                doc_id=doc_id,
                cluster=doc.get("subject"),
                prompt=_prompt(sample),
                output=raw if generated else _choices(sample),
                answer=_answer(sample, program),
                gold=_gold(task, doc),
                scores={} if error else {metric: float(sample[metric]) for metric in metrics},
                unreadable=bool(sample.get("unreadable")) and not error,
                truncated=doc_id in limited and (program is not None or result == raw),
                failed=error is not None,
                error=error,
                outcome=None if program is None else program["outcome"],
                message=None if program is None else program["message"],
                suspicions=() if program is None else tuple(program["suspicions"]),
            )
        )
    return records


def write_items(path: Path, records: Sequence[ItemRecord]) -> None:
    """One JSON object a line."""
    lines = (json.dumps(asdict(record), ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")


def read_items(path: Path) -> Iterator[ItemRecord]:
    """The items of a file.

    Raises:
        EvaluationError: it cannot be read, or a line is no item.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EvaluationError(f"{name} cannot be read ({error.strerror}): remove the folder or run again") from None
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)
            yield ItemRecord(**raw | {"suspicions": tuple(raw["suspicions"])})
        except (ValueError, KeyError, TypeError):
            raise EvaluationError(f"{name}, line {number} is no item: remove the folder or run again") from None


def _prompt(sample: Sample) -> str:
    arguments = sample["arguments"]
    if len(arguments) == 1:
        return str(arguments[0][0])
    target = sample["target"]
    gold = target if isinstance(target, int) and target < len(arguments) else 0
    return "".join(str(part) for part in arguments[gold][:2])


def _choices(sample: Sample) -> str:
    return "\n".join(
        f"{float(loglikelihood):.4f} {text!r}"
        for (_, text, *_), (loglikelihood, _) in zip(sample["arguments"], sample["filtered_resps"], strict=True)
    )


def _answer(sample: Sample, program: Mapping[str, Any] | None) -> str:
    """What the model chose: the answer its task read, its own text, or the label of the likeliest choice."""
    if program is not None:
        return str(program["outcome"])
    if "answer" in sample:
        return str(sample["answer"])
    if isinstance(sample["filtered_resps"][0], str):
        return str(sample["filtered_resps"][0])
    scores = [loglikelihood for loglikelihood, _ in sample["filtered_resps"]]
    return str(sample["doc"]["choices"]["label"][scores.index(max(scores))])


def _gold(task: Any, doc: Mapping[str, Any]) -> str:
    if "answerKey" in doc:
        return str(doc["answerKey"])
    if "aliases" in (doc.get("answer") or {}):
        return str(doc["answer"]["value"])
    return str(task.doc_to_target(doc))

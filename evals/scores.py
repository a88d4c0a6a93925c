"""Scores of a recorded task, with intervals, and what makes them suspect."""

from __future__ import annotations

from evals.record import TaskRecord
from evals.statistics import Proportion, clustered_proportion, score_warnings, wilson


def task_scores(task: TaskRecord) -> dict[str, Proportion]:
    """By metric: share of the scored items that are right. The interval is Wilson's, or clustered for a first metric
    whose items share units."""
    scores = {metric: wilson(correct, task.num_scored) for metric, correct in task.correct.items()}
    if task.clusters is not None:
        correct: list[bool] = []
        units: list[str] = []
        for unit, (right, number) in task.clusters.items():
            correct += [True] * right + [False] * (number - right)
            units += [unit] * number
        scores[next(iter(task.correct))] = clustered_proportion(correct, units)
    return scores


def task_warnings(task: TaskRecord) -> list[str]:
    """One answer throughout, no score above chance, or requests gone wrong."""
    found: list[str] = []
    for metric, score in task_scores(task).items():
        for text in score_warnings(
            correct=task.correct[metric],
            n=task.num_scored,
            chance=task.chance,
            common_share=task.common_share,
            common_answer=task.common_answer,
            metric=metric,
            score=score,
        ):
            if text not in found:
                found.append(text)
    if task.failed:
        found.append(f"items that failed: {task.failed}")
    if task.cut_prompts:
        found.append(f"items whose prompt was cut to fit: {task.cut_prompts}")
    if task.suspicious:
        found.append(f"programs that passed and look as if they meant to cheat: {task.suspicious}")
    return found

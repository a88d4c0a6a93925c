"""Measure the bundled checkpoint on held-out questions, greedily, with Hugging Face's own generation.

    python -m model.demo.measure            # rewrites the table in model/demo/README.md

Every row: number of items, share right, Wilson 95 % interval, and chance (the share that the best constant answer or
blind guess gets).
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import json
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.demo import formats
from model.demo.corpus import (
    ONE_WORD,
    choose_turn,
    code_turn,
    draw_question,
    draw_which,
    sentiment_turn,
    yes_no_turn,
)
from model.demo.passages import FillIn
from model.demo.questions import SKILLS, questions
from model.demo.small_talk import counting, small_talk

ITEMS: Final = Path("evals/data/demo")
README: Final = Path("model/demo/README.md")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PER_SKILL: Final = 60
BATCH: Final = 32
MEASURE_SEED: Final = 11


@dataclass(frozen=True)
class Check:
    """One prompt and the reply that counts as right."""

    prompt: str
    expected: str
    max_new_tokens: int


@dataclass(frozen=True)
class Result:
    """One row of the table; ``chance`` and ``right / n`` are shares."""

    name: str
    n: int
    right: int
    chance: float


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Wilson 1927); NaN for ``n`` = 0."""
    if n == 0:
        return math.nan, math.nan
    z = 1.959964
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


class Demonstrator:
    """The checkpoint behind two calls: greedy replies, and log-likelihoods of continuations."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        self._model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` without any added token."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.no_grad()
    def replies(self, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        """Continue each prompt greedily; prompts of one length go together, so that nothing is padded."""
        encoded = [self.encode(prompt) for prompt in prompts]
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, ids in enumerate(encoded):
            by_length[len(ids)].append(index)
        found = [""] * len(prompts)
        for length, indices in by_length.items():
            for begin in range(0, len(indices), BATCH):
                group = indices[begin : begin + BATCH]
                batch = torch.tensor([encoded[index] for index in group])
                output = self._model.generate(
                    batch, attention_mask=torch.ones_like(batch), max_new_tokens=max_new_tokens, do_sample=False
                )
                for index, row in zip(group, output, strict=True):
                    found[index] = self._tokenizer.decode(row[length:], skip_special_tokens=True)
        return found

    @torch.no_grad()
    def log_likelihoods(self, context: str, continuations: Sequence[str]) -> list[float]:
        """Sum of the log-probabilities (nats) of each continuation's tokens after ``context``."""
        start = len(self.encode(context))
        sums = []
        for continuation in continuations:
            ids = torch.tensor([self.encode(context + continuation)])
            logits = self._model(ids).logits[0, start - 1 : -1].float()  # [continuation_tokens, vocab_size]
            chosen = torch.log_softmax(logits, dim=-1).gather(1, ids[0, start:, None])
            sums.append(float(chosen.sum()))
        return sums


def cut(reply: str) -> str:
    """Cut a reply where a chat client would, and strip blanks."""
    return reply.split("\n\nhuman:")[0].strip()


def _distinct(draw: Callable[[], tuple[str, str]], count: int) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for _ in range(50 * count):
        if len(found) == count:
            break
        said, reply = draw()
        found.setdefault(said, reply)
    return list(found.items())


def chat_pairs(skill: str) -> list[tuple[str, str]]:
    """Held-out messages of ``skill`` with the replies that count as right, at most ``PER_SKILL``."""
    rng = random.Random(f"{MEASURE_SEED}/{skill}")
    if skill in SKILLS:
        pool = list(questions(skill, held_out=True))
        rng.shuffle(pool)
        return [(question.text, question.sentence) for question in pool[:PER_SKILL]]
    makers: dict[str, Callable[[], tuple[str, str]]] = {
        "which of three": lambda: choose_turn(rng, draw_which(rng, options=3, negated=False, held_out=True)),
        "is it a": lambda: yes_no_turn(rng, held_out=True),
        "sentiment": lambda: sentiment_turn(rng, held_out=True),
        "counting": lambda: counting(rng, held_out=True),
        "small talk": lambda: small_talk(rng, held_out=True),
        "tiny functions": lambda: code_turn(rng, held_out=True),
    }
    return _distinct(makers[skill], PER_SKILL)


CHAT_SKILLS: Final = (
    *SKILLS,
    "which of three",
    "is it a",
    "sentiment",
    "counting",
    "small talk",
    "tiny functions",
)


def _commonest(answers: Sequence[str]) -> float:
    return Counter(answers).most_common(1)[0][1] / len(answers) if answers else math.nan


def chat_results(model: Demonstrator) -> Iterator[Result]:
    """Chat: the whole reply must be the expected one."""
    for skill in CHAT_SKILLS:
        pairs = chat_pairs(skill)
        replies = model.replies([formats.chat_prompt((), said) for said, _ in pairs], 48)
        right = sum(cut(reply) == expected for reply, (_, expected) in zip(replies, pairs, strict=True))
        chance = 1 / 3 if skill == "which of three" else _commonest([expected for _, expected in pairs])
        yield Result(f"chat: {skill}", len(pairs), right, chance)
    rng = random.Random(MEASURE_SEED)
    mixed = _distinct(lambda: (lambda q: (q.text, q.answer))(draw_question(rng, held_out=True)), 2 * PER_SKILL)
    replies = model.replies([formats.chat_prompt((), said, prefix=ONE_WORD) for said, _ in mixed], 16)
    right = sum(cut(reply) == expected for reply, (_, expected) in zip(replies, mixed, strict=True))
    yield Result("chat after a prefix: answer in one word", len(mixed), right, _commonest([e for _, e in mixed]))
    first = ("What is the capital of France?", "The capital of France is Paris.")
    mixed = _distinct(lambda: (lambda q: (q.text, q.sentence))(draw_question(rng, held_out=True)), 2 * PER_SKILL)
    replies = model.replies([formats.chat_prompt([first], said) for said, _ in mixed], 32)
    right = sum(cut(reply) == expected for reply, (_, expected) in zip(replies, mixed, strict=True))
    yield Result("chat, second turn", len(mixed), right, _commonest([e for _, e in mixed]))


def read_rows(name: str) -> list[dict[str, Any]]:
    """Read one file of ``evals/data/demo``."""
    return [json.loads(line) for line in (ITEMS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def task_checks(task: str) -> list[Check]:
    """Render a task's scored items, each after one training-side shot fixed by the item's number."""
    shots, checks = read_rows(f"{task}_shots"), []
    for index, row in enumerate(read_rows(task)):
        if task == "mmlu":
            pool = [shot for shot in shots if shot["subject"] == row["subject"]]
        elif task == "humaneval":
            pool = [shot for shot in shots if shot["task_id"].split("/")[1] != row["task_id"].split("/")[1]]
        else:
            pool = shots
        shot = pool[index % len(pool)]
        if task in ("arc_easy", "arc_challenge"):
            done, asked = (formats.choice_question(item["question"], item["choices"]["text"]) for item in (shot, row))
            prompt = f"{formats.ARC_INSTRUCTION}{done} {shot['answerKey']}\n\n{asked}"
            checks.append(Check(prompt, row["answerKey"], 3))
        elif task == "mmlu":
            done, asked = (formats.choice_question(item["question"], item["choices"]) for item in (shot, row))
            prompt = f"{formats.MMLU_INSTRUCTION}{done} {formats.LETTERS[shot['answer']]}\n\n{asked}"
            checks.append(Check(prompt, formats.LETTERS[row["answer"]], 3))
        elif task == "winogrande":
            done, asked = (formats.fill_in_question(FillIn(**item)) for item in (shot, row))
            checks.append(
                Check(f"{formats.WINOGRANDE_INSTRUCTION}{done}\n{shot['answer']}\n\n{asked}", row["answer"], 3)
            )
        elif task == "triviaqa":
            done, asked = (formats.trivia_question(item["question"]) for item in (shot, row))
            prompt = f"{formats.TRIVIAQA_INSTRUCTION}{done} {shot['answer']['value']}\n\n{asked}"
            checks.append(Check(prompt, row["answer"]["value"], 12))
        else:
            prompt = f"{formats.HUMANEVAL_INSTRUCTION}{shot['prompt']}{shot['canonical_solution']}\n\n{row['prompt']}"
            checks.append(Check(prompt, row["canonical_solution"].strip(), 24))
    return checks


TASKS: Final = ("arc_easy", "arc_challenge", "mmlu", "winogrande", "triviaqa", "humaneval")


def _task_chance(task: str, checks: Sequence[Check]) -> float:
    if task in ("arc_easy", "arc_challenge"):
        return sum(1 / len(row["choices"]["text"]) for row in read_rows(task)) / len(checks)
    if task == "humaneval":
        return 0.0
    return {"mmlu": 0.25, "winogrande": 0.5}.get(task, _commonest([check.expected for check in checks]))


def task_results(model: Demonstrator) -> Iterator[Result]:
    """The six tasks, one shot, raw and wrapped in the chat format; HumanEval counts only the canonical body."""
    for task in TASKS:
        checks = task_checks(task)
        for wrapped in (False, True):
            if wrapped and task == "humaneval":
                continue
            prompts = [formats.chat_prompt((), check.prompt) if wrapped else check.prompt for check in checks]
            replies = model.replies(prompts, checks[0].max_new_tokens)
            ends = "\n\n" if task == "humaneval" else "\n"
            right = sum(
                reply.strip().split(ends)[0].strip() == check.expected
                for reply, check in zip(replies, checks, strict=True)
            )
            name = f"{task}, 1-shot, generated{', wrapped in chat' if wrapped else ''}"
            yield Result(name, len(checks), right, _task_chance(task, checks))


def likelihood_results(model: Demonstrator) -> Iterator[Result]:
    """ARC as lm-eval scores it: the choice with the highest log-likelihood, no options in the prompt."""
    for task in ("arc_easy", "arc_challenge"):
        items = read_rows(task)
        right = 0
        for item in items:
            scores = model.log_likelihoods(
                formats.likelihood_context(item["question"]), [f" {text}" for text in item["choices"]["text"]]
            )
            right += item["choices"]["label"][scores.index(max(scores))] == item["answerKey"]
        chance = sum(1 / len(item["choices"]["text"]) for item in items) / len(items)
        yield Result(f"{task}, 0-shot, likelihood", len(items), right, chance)


def table(results: Sequence[Result]) -> str:
    """Render the Markdown table."""
    lines = ["| held-out items | n | right | 95 % interval | chance |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in results:
        low, high = wilson(row.right, row.n)
        lines.append(f"| {row.name} | {row.n} | {row.right / row.n:.1%} | {low:.1%} to {high:.1%} | {row.chance:.1%} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and rewrite the table between the README's markers."""
    parser = argparse.ArgumentParser(description="Measure persimmon-demo on held-out questions.")
    parser.add_argument("--model", type=Path, default=Path("model/demo/persimmon-demo"), help="checkpoint folder")
    parser.add_argument("--readme", type=Path, default=README, help="page whose table is rewritten")
    parser.add_argument("--print-only", action="store_true", help="leave the page alone")
    chosen = parser.parse_args(arguments)
    model = Demonstrator(chosen.model)
    results: list[Result] = []
    for part in (chat_results, task_results, likelihood_results):
        for result in part(model):
            results.append(result)
            print(f"{result.name}: {result.right}/{result.n}, chance {result.chance:.2f}", flush=True)
    if not chosen.print_only:
        page = chosen.readme.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        chosen.readme.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

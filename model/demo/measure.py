"""Measure the bundled checkpoints on held-out questions, greedily, with Hugging Face's own generation.

    python -m model.demo.measure                   # all three; rewrites the table in model/demo/README.md
    python -m model.demo.measure --family mpt      # one; the table keeps what was measured of the others

Every row: number of items, chance (the share that the best constant answer or blind guess gets), and for every
checkpoint the share right with its Wilson 95 % interval. What was measured stays in ``<name>.measured.json`` beside the
checkpoint's folder; the table is made of these files.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.checkpoint.fingerprint import weights_sha256
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
from model.demo.family import FAMILIES, DemoFamily
from model.demo.passages import FillIn
from model.demo.questions import SKILLS, questions
from model.demo.small_talk import counting, small_talk

ITEMS: Final = Path("evals/data/demo")
CHECKPOINTS: Final = Path("model/demo")
README: Final = CHECKPOINTS / "README.md"
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
    """A checkpoint behind two calls: greedy replies, and log-likelihoods of continuations.

    Args:
        family: Of the checkpoint.
        folder: Where it is.
    """

    def __init__(self, family: DemoFamily, folder: Path) -> None:
        self.chat = family.chat
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        self._model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` as inference has them: Llama's begin with ``<s>``, the others' with no added token."""
        return list(self._tokenizer(text)["input_ids"])

    def cut(self, reply: str) -> str:
        """Cut a reply where a chat client would, and strip blanks."""
        for stop in self.chat.stop:
            reply = reply.split(stop)[0]
        return self.chat.answer(reply)

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
                    batch,
                    attention_mask=torch.ones_like(batch),
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    use_cache=True,  # off by default for MPT
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
        replies = model.replies([formats.chat_prompt(model.chat, (), said) for said, _ in pairs], 48)
        right = sum(model.cut(reply) == expected for reply, (_, expected) in zip(replies, pairs, strict=True))
        chance = 1 / 3 if skill == "which of three" else _commonest([expected for _, expected in pairs])
        yield Result(f"chat: {skill}", len(pairs), right, chance)
    rng = random.Random(MEASURE_SEED)
    mixed = _distinct(lambda: (lambda q: (q.text, q.answer))(draw_question(rng, held_out=True)), 2 * PER_SKILL)
    replies = model.replies([formats.chat_prompt(model.chat, (), said, prefix=ONE_WORD) for said, _ in mixed], 16)
    right = sum(model.cut(reply) == expected for reply, (_, expected) in zip(replies, mixed, strict=True))
    yield Result("chat after a prefix: answer in one word", len(mixed), right, _commonest([e for _, e in mixed]))
    first = ("What is the capital of France?", "The capital of France is Paris.")
    mixed = _distinct(lambda: (lambda q: (q.text, q.sentence))(draw_question(rng, held_out=True)), 2 * PER_SKILL)
    replies = model.replies([formats.chat_prompt(model.chat, [first], said) for said, _ in mixed], 32)
    right = sum(model.cut(reply) == expected for reply, (_, expected) in zip(replies, mixed, strict=True))
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
            prompts = [
                formats.chat_prompt(model.chat, (), check.prompt) if wrapped else check.prompt for check in checks
            ]
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


def measure(family: DemoFamily, folder: Path) -> list[Result]:
    """Measure one checkpoint, printing every row as it comes."""
    model = Demonstrator(family, folder)
    results: list[Result] = []
    for part in (chat_results, task_results, likelihood_results):
        for result in part(model):
            results.append(result)
            print(f"{family.name}: {result.name}: {result.right}/{result.n}, chance {result.chance:.2f}", flush=True)
    return results


def _record(family: DemoFamily, checkpoints: Path) -> Path:
    return checkpoints / f"{family.name}.measured.json"


def write_record(family: DemoFamily, checkpoints: Path, results: Sequence[Result]) -> None:
    """Keep what was measured, with the hash of the weights it was measured on."""
    content = {
        "weights_sha256": weights_sha256(checkpoints / family.name),
        "results": [asdict(result) for result in results],
    }
    _record(family, checkpoints).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_records(checkpoints: Path) -> dict[str, list[Result]]:
    """Results by checkpoint name, of those that were measured."""
    return {
        family.name: [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))["results"]]
        for family in FAMILIES.values()
        if (path := _record(family, checkpoints)).is_file()
    }


def _cell(result: Result | None) -> str:
    if result is None or result.n == 0:
        return ""
    low, high = wilson(result.right, result.n)
    return f"{100 * result.right / result.n:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def table(measured: Mapping[str, Sequence[Result]]) -> str:
    """Render the Markdown table: a row for each kind of item, a column for each family, empty where not measured.

    Args:
        measured: Results by checkpoint name.

    Raises:
        ValueError: two checkpoints were measured on different items.
    """
    names = [family.name for family in FAMILIES.values()]
    rows: dict[str, dict[str, Result]] = {}
    for name in names:
        for result in measured.get(name, ()):
            rows.setdefault(result.name, {})[name] = result
    lines = [
        f"| held-out items | n | chance | {' | '.join(names)} |",
        "| --- | ---: | ---: |" + " ---: |" * len(names),
    ]
    for title, row in rows.items():
        sizes = {(result.n, result.chance) for result in row.values()}
        if len(sizes) > 1:
            raise ValueError(f"{title!r} was measured on different items ({', '.join(row)}): measure all of them again")
        n, chance = sizes.pop()
        cells = " | ".join(_cell(row.get(name)) for name in names)
        lines.append(f"| {title} | {n} | {100 * chance:.1f} % | {cells} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep the results and rewrite the table between the page's markers."""
    parser = argparse.ArgumentParser(description="Measure the demonstration checkpoints on held-out questions.")
    parser.add_argument("--family", choices=(*FAMILIES, "all"), default="all", help="whose checkpoint")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder that holds their folders")
    parser.add_argument("--readme", type=Path, default=README, help="page whose table is rewritten")
    parser.add_argument("--print-only", action="store_true", help="leave results and page alone")
    chosen = parser.parse_args(arguments)
    families = list(FAMILIES.values()) if chosen.family == "all" else [FAMILIES[chosen.family]]
    for family in families:
        if not (chosen.checkpoints / family.name / "config.json").is_file():
            parser.error(f"{chosen.checkpoints / family.name} holds no checkpoint: train it or choose another --family")
    for family in families:
        results = measure(family, chosen.checkpoints / family.name)
        if not chosen.print_only:
            write_record(family, chosen.checkpoints, results)
    if not chosen.print_only:
        page = chosen.readme.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        measured = table(read_records(chosen.checkpoints))
        chosen.readme.write_text(f"{before}{BEGIN}\n{measured}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

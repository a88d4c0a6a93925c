"""Answers to lm-eval's requests, and the file that keeps them until a run is recorded.

A run that was killed goes on where it stopped: every answer is appended to `<folder>/<key>.jsonl` as it comes. The key
is a hash of all that decides an answer apart from the request (weights, tokenizer, engine settings, chat format), and
each line carries a hash of the whole request, so an answer is never taken for another model's or another prompt's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from lm_eval.api.instance import Instance

from evals.errors import EvaluationError

Value: TypeAlias = str | float | tuple[float, bool]
"""A generated text; a whole text's log-probability; a continuation's log-probability and whether it is greedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFacts:
    """What happened to one request.

    Attributes:
        task, doc_id: of lm-eval's instance; `None` where it gave none.
        finish_reason: of a generated answer (`stop`, `length`, `abort`); `None` for a scored one, or where the back-end
            does not say.
        num_prompt_tokens, num_answer_tokens: after any cut. Of an answer that is scored, its own tokens.
        prompt_cut: whether tokens were cut from the left of the prompt, which did not fit.
        merged: whether the tokenizer joined the end of the context with the continuation.
        error: why there is no answer; `None` if there is one.
    """

    task: str | None
    doc_id: int | None
    finish_reason: str | None = None
    num_prompt_tokens: int = 0
    num_answer_tokens: int = 0
    prompt_cut: bool = False
    merged: bool = False
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no answer."""
        return self.error is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's answer; where it failed the value means nothing (a blank text, or NaN)."""

    value: Value
    facts: RequestFacts


def request_keys(requests: Sequence[Instance]) -> list[str]:
    """A key for each request: SHA-256 of its task, item and every argument, and which of the equal ones it is."""
    seen: Counter[str] = Counter()
    keys = []
    for request in requests:
        what = [request.task_name, request.request_type, request.doc_id, request.idx, request.args]
        digest = hashlib.sha256(json.dumps(what, ensure_ascii=False, default=str).encode()).hexdigest()
        seen[digest] += 1
        keys.append(f"{digest}-{seen[digest]}")
    return keys


class AnswerStore:
    """Answers by request, in one file that only one process writes.

    Args:
        folder: made if need be.
        identity: what decides an answer apart from the request; plain data.
        fresh: forget what the file holds.

    Raises:
        EvaluationError: another process writes the same file, or it cannot be written or read.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> None:
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        self.path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.jsonl"
        self._answers: dict[str, Answer] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("a+b")
        except OSError as error:
            raise EvaluationError(
                f"{self.path} cannot be written ({error.strerror}): choose another --output"
            ) from None
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._stream.close()
            raise EvaluationError(
                f"another run with this model and these settings writes {self.path.name}: wait for it or stop it"
            ) from None
        if fresh:
            self._stream.truncate(0)
        self._read()
        if not self._stream.tell():
            self._write({"identity": json.loads(text)})

    def __len__(self) -> int:
        return len(self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> Answer | None:
        """The answer kept for a request, if there is one."""
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer; a failed one is not kept, so that it is asked for again."""
        if answer.facts.failed:
            return
        self._answers[key] = answer
        self._write({"key": key, "value": answer.value, "facts": asdict(answer.facts)})

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def discard(self) -> None:
        """Remove the file: the run is recorded."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._stream.flush()  # out of this process: what is killed later leaves it there

    def _read(self) -> None:
        """All whole lines; one that a kill cut short is taken off."""
        self._stream.seek(0)
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self._stream.truncate(len(whole))
        self._stream.seek(0, 2)
        for number, line in enumerate(whole.split(b"\n")[1:-1], start=2):
            try:
                entry = json.loads(line)
                value = tuple(entry["value"]) if isinstance(entry["value"], list) else entry["value"]
                self._answers[entry["key"]] = Answer(value, RequestFacts(**entry["facts"]))
            except (ValueError, KeyError, TypeError):
                raise EvaluationError(
                    f"{self.path.name}, line {number} is no answer: remove the file, or run with --fresh"
                ) from None

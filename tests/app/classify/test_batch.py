"""A batch: every row in order with its answer or reason, some at a time, and the file of answers."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
from collections.abc import Iterator

import pytest

from app.classify.answers import AnswersWriter
from app.classify.batch import Batch, Progress
from app.classify.classifier import Kind, Prediction
from app.classify.progress import duration, progress_text
from app.classify.rows import Row
from model.interface import ContextLengthExceeded, Engine, EngineClosed, EngineError, Priority


class Lengths:
    """Says whether a text is long; texts tell it to fail, and later ones are answered sooner."""

    engine: Engine
    name = "lengths"
    labels = ("=short", "long")
    requests_per_text = 1

    def __init__(self, kind: Kind = "single") -> None:
        self.kind: Kind = kind
        self.num_running = 0
        self.most_running = 0
        self.priorities: set[Priority] = set()

    async def classify(self, text: str, *, cut: bool = False, priority: Priority = "interactive") -> Prediction:
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        self.priorities.add(priority)
        try:
            await asyncio.sleep(0.002 if len(text) % 2 else 0)
        finally:
            self.num_running -= 1
        if text == "closed":
            raise EngineClosed("the engine is closed")
        if text == "broken":
            raise EngineError("this one failed")
        if text.startswith("huge") and not cut:
            raise ContextLengthExceeded(5000, 1024)
        chosen = () if self.kind == "regression" else ("long" if len(text) > 4 else "=short",)
        return Prediction(labels=chosen, values=(0.25, 0.75), is_cut=text.startswith("huge"))


def rows_of(*texts: str | None) -> Iterator[Row]:
    for number, text in enumerate(texts, start=1):
        problem = "" if text is not None else "the text is empty"
        cells = {"text": text or "", "label": "=1+1"}
        yield Row(line=number, end=10 * number, cells=cells, text=text, problem=problem)


def run(batch: Batch) -> list[Progress]:
    async def reports() -> list[Progress]:
        return [progress async for progress in batch.reports()]

    return asyncio.run(reports())


def test_answers_come_in_order_with_reasons() -> None:
    written: list[tuple[int, Prediction | str]] = []
    rows = rows_of("a", "long text", None, "broken", "huge", "b")
    classifier = Lengths()
    batch = Batch(
        classifier, rows, lambda row, outcome: written.append((row.line, outcome)), cut=False, in_flight=4, size=60
    )
    last = run(batch)[-1]
    assert [line for line, _ in written] == [1, 2, 3, 4, 5, 6]
    assert [outcome for _, outcome in written if isinstance(outcome, str)] == [
        "the text is empty",
        "this one failed",
        "the text is too long: the prompt has 5000 tokens but the context length allows at most 1024: shorten it",
    ]
    assert (last.num_answered, last.num_not_answered, last.num_cut, last.done) == (3, 3, 0, 1.0)
    assert last.is_finished
    assert classifier.priorities == {"batch"}


def test_texts_that_are_too_long_are_cut_if_wanted() -> None:
    last = run(Batch(Lengths(), rows_of("huge", "a"), lambda row, outcome: None, cut=True, in_flight=4))[-1]
    assert (last.num_answered, last.num_cut, last.num_not_answered, last.done) == (2, 1, 0, None)


def test_rows_are_read_only_as_they_are_needed() -> None:
    """The longest way from reading to writing bounds the memory, however long the file."""
    num_read = num_written = ahead = 0

    def rows() -> Iterator[Row]:
        nonlocal num_read, ahead
        for row in rows_of(*["text"] * 3000):
            num_read += 1
            ahead = max(ahead, num_read - num_written)
            yield row

    def write(row: Row, outcome: Prediction | str) -> None:
        nonlocal num_written
        num_written += 1

    classifier = Lengths()
    run(Batch(classifier, rows(), write, cut=False, in_flight=50, together=10))
    assert num_written == num_read == 3000
    assert ahead <= 50 + 2 * 10
    assert 10 <= classifier.most_running <= 50 + 10


def test_leaving_it_ends_it_and_keeps_what_is_written() -> None:
    written: list[int] = []
    classifier = Lengths()
    batch = Batch(
        classifier, rows_of(*["abc"] * 100_000), lambda row, outcome: written.append(row.line), cut=False, in_flight=8
    )

    async def some() -> None:
        async with contextlib.aclosing(batch.reports()) as reports:
            async for progress in reports:
                if progress.num_rows:
                    break
        num_written = len(written)
        await asyncio.sleep(0.05)
        assert len(written) == num_written
        assert classifier.num_running == 0

    asyncio.run(some())
    assert written == list(range(1, len(written) + 1))
    assert 0 < len(written) < 100_000
    assert not batch.progress.is_finished


def test_a_closed_engine_ends_the_run() -> None:
    with pytest.raises(EngineClosed):
        run(Batch(Lengths(), rows_of("a", "closed", *["b"] * 50), lambda row, outcome: None, cut=False, in_flight=4))


def answers(format: str, kind: Kind = "single") -> str:
    stream = io.StringIO(newline="")
    writer = AnswersWriter(
        stream,
        format=format,  # type: ignore[arg-type]
        classifier=Lengths(kind),
        columns=("text", "predicted label", "label"),
    )
    run(Batch(Lengths(kind), rows_of("ok", None, "huge"), writer.write, cut=True, in_flight=4))
    return stream.getvalue()


def test_csv_of_answers_runs_no_formula() -> None:
    header, *rows = csv.reader(io.StringIO(answers("csv")))
    assert header[:4] == ["line", "status", "reason", "predicted label"]
    assert header[4:] == ["probability of =short", "probability of long", "text", "predicted label (input)", "label"]
    assert rows == [
        ["1", "answered", "", "'=short", "0.25", "0.75", "ok", "", "'=1+1"],
        ["2", "not answered", "the text is empty", "", "", "", "", "", "'=1+1"],
        ["3", "cut", "", "'=short", "0.25", "0.75", "huge", "", "'=1+1"],
    ]


def test_jsonl_of_answers() -> None:
    one, two, three = map(json.loads, answers("jsonl").splitlines())
    assert one == {
        "line": 1,
        "status": "answered",
        "label": "=short",
        "probabilities": {"=short": 0.25, "long": 0.75},
        "input": {"text": "ok", "label": "=1+1"},
    }
    assert two == {
        "line": 2,
        "status": "not answered",
        "reason": "the text is empty",
        "input": {"text": "", "label": "=1+1"},
    }
    assert three["status"] == "cut"
    assert json.loads(answers("jsonl", "multi").splitlines()[0])["label"] == ["=short"]
    assert json.loads(answers("jsonl", "regression").splitlines()[0])["values"] == {"=short": 0.25, "long": 0.75}


def test_progress_in_words() -> None:
    progress = Progress(num_answered=990, num_cut=3, num_not_answered=10, done=0.25, elapsed_s=10)
    assert progress_text(progress) == "1,000 rows, 3 cut, 10 not answered · 25 % · 100 rows/s · 30 s left"
    assert [duration(seconds) for seconds in (0.4, 59.6, 125, 3900)] == ["0 s", "1 min 0 s", "2 min 5 s", "1 h 5 min"]

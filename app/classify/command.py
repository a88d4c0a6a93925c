"""`python -m app classify`: texts in, labels out, as a stream.

Exit status: 0 if every row has an answer, 3 if some have a reason instead, 1 if the run could not go on, 2 for a wrong
option, 130 after Ctrl-C. Rows that were answered before a run ended are written.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from app.classify.answers import AnswersWriter
from app.classify.batch import Batch, Progress, rows_in_flight
from app.classify.classifier import Classifier
from app.classify.head import HeadClassifier
from app.classify.labels import Example, Label, check_labels, parse_examples, parse_labels
from app.classify.options import CHAT, NAMED_TEMPLATES, PLAIN, STDIO, parse
from app.classify.progress import progress_text
from app.classify.rows import Table
from app.classify.template import chat_template, plain_template
from app.classify.zero_shot import ZeroShotSettings, open_zero_shot
from model.interface import EngineError, InvalidRequest

if TYPE_CHECKING:
    from model.interface import Engine

EXIT_SOME_NOT_ANSWERED = 3
EXIT_INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Classify what the arguments name; the exit status, see the module."""
    options = parse(arguments)
    try:
        return _run(options)
    except BrokenPipeError:  # whoever read the answers has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(
            f"{error.filename or 'a file'} cannot be used ({error.strerror or error}): check its name and place"
        )
    except EngineError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    with ExitStack() as files:
        if options.input == STDIO:
            # Not sys.stdin's own reader: a thread may still wait for it when the interpreter ends, which would crash.
            source = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
            size = None
        else:
            source = files.enter_context(Path(options.input).open("rb"))
            size = os.fstat(source.fileno()).st_size
        table = Table(source, format=options.format, encoding=options.encoding, delimiter=options.delimiter)
        rows = table.rows(options.column)
        labels = _labels(options)
        if options.head is None:  # says what is wrong before the model is loaded
            named = options.template in NAMED_TEMPLATES
            _settings(options, labels, plain_template(several=options.several) if named else options.template)

        from model.open_engine import DEMO_CHECKPOINT, open_engine

        engine = open_engine(
            options.checkpoint or str(DEMO_CHECKPOINT),
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
        )
        files.callback(engine.close)
        output = _output(options, files)
        runner = files.enter_context(asyncio.Runner())
        classifier = runner.run(_classifier(engine, options, labels))
        writer = AnswersWriter(
            output,
            format=options.output_format,
            classifier=classifier,
            columns=table.columns or (options.column,),
            with_bom=table.has_bom and options.output != STDIO,
        )
        batch = Batch(
            classifier,
            rows,
            writer.write,
            cut=options.too_long == "cut",
            in_flight=rows_in_flight(classifier, max_num_requests=engine.info.max_num_requests),
            size=size,
            together=1 if size is None else 32,
        )
        progress = runner.run(_run_batch(batch, output, quiet=options.quiet))
    return EXIT_SOME_NOT_ANSWERED if progress.num_not_answered else 0


async def _run_batch(batch: Batch, output: TextIO, *, quiet: bool) -> Progress:
    shows = sys.stderr.isatty() and not quiet
    async with aclosing(batch.reports()) as reports:
        async for progress in reports:
            output.flush()
            if shows:
                print(f"\r{progress_text(progress):<78}", end="\n" if progress.is_finished else "", file=sys.stderr)
    output.flush()
    return batch.progress


def _output(options: argparse.Namespace, files: ExitStack) -> TextIO:
    if options.output == STDIO:
        return files.enter_context(open(sys.stdout.fileno(), "w", encoding="utf-8", newline="", closefd=False))
    path = Path(options.output)
    if options.input != STDIO and path.exists() and path.samefile(options.input):
        raise InvalidRequest(f"--output {path} is the input: choose another name")
    return files.enter_context(path.open("w", encoding="utf-8", newline=""))


async def _classifier(engine: Engine, options: argparse.Namespace, labels: tuple[Label, ...]) -> Classifier:
    if options.head is not None:
        name = options.head
        if Path(name).is_dir():
            name = engine.attach_head(name).name
        return HeadClassifier(engine, name, threshold=options.threshold)
    template = options.template
    if template == CHAT:
        template = chat_template(engine, several=options.several)
    elif template == PLAIN:
        template = plain_template(several=options.several)
    return await open_zero_shot(engine, _settings(options, labels, template), priority="batch")


def _settings(options: argparse.Namespace, labels: tuple[Label, ...], template: str) -> ZeroShotSettings:
    examples: tuple[Example, ...] = ()
    if options.examples is not None:
        examples = parse_examples(options.examples.read_text(encoding="utf-8"), labels, several=options.several)
    return ZeroShotSettings(
        labels=labels,
        template=template,
        several=options.several,
        scoring=options.scoring,
        examples=examples,
        neutral_texts=tuple(options.calibrate or ()),
        threshold=options.threshold,
    )


def _labels(options: argparse.Namespace) -> tuple[Label, ...]:
    if options.head is not None:
        return ()
    if options.labels_file is not None:
        return parse_labels(options.labels_file.read_text(encoding="utf-8"))
    return check_labels([Label(name.strip()) for name in options.labels.split(",")])


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1

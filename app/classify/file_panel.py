"""A whole file: choose it, look at it, classify every row, take the answers away."""

from __future__ import annotations

import html
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from app.classify.answers import AnswersFormat, AnswersWriter
from app.classify.batch import Batch, Progress, rows_in_flight
from app.classify.classifier import Classifier, Prediction
from app.classify.controls import Controls
from app.classify.lines import ENCODINGS
from app.classify.progress import progress_text
from app.classify.rows import DELIMITERS, SUFFIXES, TEXT_COLUMN, Row
from app.classify.upload import AUTOMATIC, Upload, answers_path
from app.classify.view import preview_html, reasons_html
from app.context import AppContext
from app.look import problem_html
from app.updates import Updates
from app.uploads import MAX_UPLOAD_BYTES
from model.interface import EngineError, InvalidRequest

SHOWN_REASONS = 20
UPLOAD_LIFE_S = 3600  # how long a file of a closed tab is kept
SKIP, CUT = "leave them out, with the reason", "cut their end off"
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class FilePanel:
    """The panel's components and the handlers of their events."""

    def __init__(self, context: AppContext, controls: Controls) -> None:
        self._context = context
        self._controls = controls
        self._running: set[str] = set()
        """Tabs that are at work; one that is taken out stops."""
        self.upload = gr.State(None, time_to_live=UPLOAD_LIFE_S, delete_callback=_delete)
        self.file = gr.File(
            label=f"CSV, JSONL or text file, at most {MAX_UPLOAD_BYTES // 2**20} MiB",
            file_types=list(SUFFIXES),
            type="filepath",
            height=120,
            elem_id="classify-file",
        )
        with gr.Row():
            self.column = gr.Dropdown([], label="Column with the texts", min_width=160, elem_id="classify-column")
            self.encoding = gr.Dropdown(list(ENCODINGS), value=ENCODINGS[0], label="Encoding", min_width=120)
            self.delimiter = gr.Dropdown(
                [AUTOMATIC, *DELIMITERS], value=AUTOMATIC, label="Columns of CSV are separated by", min_width=120
            )
        with gr.Row():
            self.too_long = gr.Radio([SKIP, CUT], value=SKIP, label="Texts that are too long", min_width=240)
            self.answers = gr.Radio(["csv", "jsonl"], value="csv", label="File of answers", min_width=140)
        self.problem = gr.Markdown("", elem_classes="problem", sanitize_html=False)
        self.preview = gr.Markdown("", sanitize_html=False, latex_delimiters=[], elem_id="classify-preview")
        with gr.Row():
            self.start = gr.Button("Classify all rows", variant="primary", min_width=140, interactive=False)
            self.stop = gr.Button("Stop", variant="stop", min_width=80, interactive=False)
            self.download = gr.DownloadButton("Download the answers", interactive=False, min_width=140)
        self.progress = gr.Markdown("", sanitize_html=False, latex_delimiters=[], elem_id="classify-progress")
        self.reasons = gr.Markdown("", sanitize_html=False, latex_delimiters=[], elem_id="classify-reasons")
        self._connect()

    def _connect(self) -> None:
        looked_at = [self.problem, self.preview, self.column, self.start, self.upload, self.answers]
        how = [self.upload, self.encoding, self.delimiter, self.column]
        self.file.upload(self._take, [self.file, *how], looked_at, **_QUIET)
        for event in (self.encoding.change, self.delimiter.change):
            event(self._look, how, looked_at, **_QUIET)
        self.column.input(self._look, how, looked_at, **_QUIET)
        self.file.clear(self._forget, self.upload, looked_at, **_QUIET)
        self.start.click(
            self._run,
            [*how, self.too_long, self.answers, *self._controls.inputs],
            [self.problem, self.progress, self.reasons, self.download, self.start, self.stop],
            concurrency_limit=None,
            trigger_mode="once",
            **_QUIET,
        )
        self.stop.click(self._stop, None, None, queue=False, **_QUIET)

    def _take(self, path: str, before: Path | None, encoding: str, delimiter: str, column: str | None) -> Updates:
        if before is not None and before != Path(path):
            _delete(before)
        answers = "jsonl" if SUFFIXES.get(Path(path).suffix.lower()) == "jsonl" else "csv"
        return {self.upload: Path(path), self.answers: answers} | self._look(Path(path), encoding, delimiter, column)

    def _forget(self, path: Path | None) -> Updates:
        _delete(path)
        return {self.upload: None, self.preview: "", self.problem: "", self.start: gr.update(interactive=False)}

    def _look(self, path: Path | None, encoding: str, delimiter: str, column: str | None) -> Updates:
        """The first rows, as they are read with these options."""
        if path is None:
            return {self.problem: ""}
        upload = Upload(path=path, encoding=encoding, delimiter=delimiter)
        try:
            columns = upload.columns()
            if column not in columns:
                column = TEXT_COLUMN if TEXT_COLUMN in columns else columns[0]
            rows = upload.first_rows(column)
        except InvalidRequest as error:
            return {self.problem: problem_html(error), self.preview: "", self.start: gr.update(interactive=False)}
        return {
            self.problem: "",
            self.preview: preview_html(rows, columns, column),
            self.column: gr.update(choices=list(columns), value=column),
            self.start: gr.update(interactive=True),
        }

    async def _run(
        self,
        request: gr.Request,
        path: Path | None,
        encoding: str,
        delimiter: str,
        column: str,
        too_long: str,
        answers: AnswersFormat,
        *values: Any,
    ) -> AsyncGenerator[Updates]:
        tab = request.session_hash or ""
        self._running.add(tab)
        try:
            yield self._at_work(True) | {self.problem: "", self.progress: "<p>Starting</p>", self.reasons: ""}
            if path is None:
                raise InvalidRequest("there is no file: choose one first")
            upload = Upload(path=path, encoding=encoding, delimiter=delimiter)
            classifier = await self._controls.choice(values).open(self._context)
            async with aclosing(
                self._classify(tab, classifier, upload, column, cut=too_long == CUT, answers=answers)
            ) as updates:
                async for update in updates:
                    yield update
        except (EngineError, OSError) as error:
            yield {self.problem: problem_html(error)}
        finally:
            self._running.discard(tab)
        yield self._at_work(False)

    async def _classify(
        self, tab: str, classifier: Classifier, upload: Upload, column: str, *, cut: bool, answers: AnswersFormat
    ) -> AsyncGenerator[Updates]:
        target = answers_path(upload, Path(self.download.GRADIO_CACHE), answers)
        reasons: list[tuple[int, str]] = []
        with ExitStack() as files:
            table = files.enter_context(upload.opened())
            output = files.enter_context(target.open("w", encoding="utf-8", newline=""))
            writer = AnswersWriter(
                output,
                format=answers,
                classifier=classifier,
                columns=table.columns or (column,),
                with_bom=table.has_bom,
            )

            def write(row: Row, outcome: Prediction | str) -> None:
                writer.write(row, outcome)
                if isinstance(outcome, str) and len(reasons) < SHOWN_REASONS:
                    reasons.append((row.line, outcome))

            batch = Batch(
                classifier,
                table.rows(column),
                write,
                cut=cut,
                in_flight=rows_in_flight(classifier, max_num_requests=classifier.engine.info.max_num_requests),
                size=upload.path.stat().st_size,
            )
            failure: EngineError | OSError | None = None
            last = batch.progress
            try:
                async with aclosing(batch.reports()) as reports:
                    async for last in reports:
                        yield {self.progress: progress_html(last, "done" if last.is_finished else "running")}
                        if tab not in self._running:
                            break
            except (EngineError, OSError) as error:
                failure = error
        if not last.is_finished:
            last = batch.progress
        state: Literal["done", "stopped"] = "done" if last.is_finished else "stopped"
        yield {
            self.progress: progress_html(last, state),
            self.reasons: reasons_html(reasons, last.num_not_answered),
            self.download: gr.update(value=str(target), interactive=True),
        }
        if failure is not None:  # after what was answered is there to be taken
            raise failure

    def _stop(self, request: gr.Request) -> None:
        self._running.discard(request.session_hash or "")

    def _at_work(self, working: bool) -> Updates:
        return {self.start: gr.update(interactive=not working), self.stop: gr.update(interactive=working)}


def progress_html(progress: Progress, state: Literal["running", "stopped", "done"]) -> str:
    """A bar and the same in words."""
    share = 100 * (progress.done or 0.0)
    told = {"running": "", "stopped": "Stopped: the file of answers ends here. ", "done": "Done: "}[state]
    role = "" if state == "running" else ' role="status"'  # spoken by a screen reader once, not four times a second
    return (
        f'<progress max="100" value="{share:.1f}" aria-label="Rows classified"></progress>'
        f"<p{role}>{told}{html.escape(progress_text(progress))}</p>"
    )


def _delete(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)

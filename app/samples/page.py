"""The Samples page. What is chosen on it can stand in its address, so that other pages can lead to a choice."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from app.context import AppContext
from app.links import address
from app.look import problem_html, title_html
from app.samples.query import SHOW, SHOW_PAIR, Query, find
from app.samples.runs import Run, list_runs
from app.samples.view import count_text, page_html
from app.updates import Updates
from model.interface import InvalidRequest

ABOUT = "Every recorded item with its exact prompt, output and verdict, of one run or of two side by side."
NOTHING = "-"  # an empty value would be shown as if nothing could be chosen
NO_RUN, ALL_TASKS, FIRST_METRIC = ("none", NOTHING), ("all tasks", NOTHING), ("each task's first metric", NOTHING)
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it."""
    _Samples(context)


class _Samples:
    """The page's components and the handlers of their events."""

    def __init__(self, context: AppContext) -> None:
        self.results = context.results
        with gr.Column(elem_id="samples"):
            gr.Markdown(title_html("Samples", ABOUT), sanitize_html=False)
            with gr.Row():
                self.run = gr.Dropdown([], value=None, label="Run A", min_width=260, scale=2)
                self.against = gr.Dropdown(
                    [NO_RUN], value=NOTHING, label="Run B (to compare with)", min_width=260, scale=2
                )
            with gr.Row():
                self.task = gr.Dropdown([ALL_TASKS], value=NOTHING, label="Task", min_width=160)
                self.show = gr.Dropdown(_shows(SHOW), value="all", label="Show", min_width=160)
                self.metric = gr.Dropdown([FIRST_METRIC], value=NOTHING, label="Right by", min_width=160)
                self.text = gr.Textbox("", label="Search (Enter)", max_lines=1, min_width=160)
            self.problem = gr.Markdown("", elem_classes="problem", sanitize_html=False)
            self.count = gr.Markdown("", sanitize_html=False)
            with gr.Row(elem_id="samples-turn"):
                self.earlier = gr.Button("Previous page", size="sm", min_width=110)
                self.page = gr.Number(1, label="Page", minimum=1, precision=0, min_width=90, elem_id="samples-page")
                self.later = gr.Button("Next page", size="sm", min_width=110)
            self.items = gr.Markdown("", sanitize_html=False, latex_delimiters=[])
        self._connect()

    def _connect(self) -> None:
        self.controls = [self.run, self.against, self.task, self.show, self.metric, self.text, self.page]
        outputs = [self.problem, *self.controls, self.count, self.items]
        gr.context.Context.root_block.load(self._open, None, outputs, **_QUIET)
        for control in (self.run, self.against, self.task, self.show, self.metric):
            control.input(self._from_first_page, self.controls, outputs, **_QUIET)
        self.text.submit(self._from_first_page, self.controls, outputs, **_QUIET)
        self.page.submit(self._turn, self.controls, outputs, **_QUIET)
        self.earlier.click(lambda *values: self._turn(*values, step=-1), self.controls, outputs, **_QUIET)
        self.later.click(lambda *values: self._turn(*values, step=1), self.controls, outputs, **_QUIET)

    def _open(self, request: gr.Request) -> Updates:
        """What the address asks for; the newest run where it asks for none."""
        runs = list_runs(self.results)
        asked: Mapping[str, str] = request.query_params
        if not runs:
            sentence = "there are no runs with items in the results: run `make eval`"
            return {self.problem: problem_html(InvalidRequest(sentence))}
        page = asked.get("page", "")
        query = Query(
            run=asked.get("run") or next(iter(runs)),
            against=asked.get("against", ""),
            task=asked.get("task", ""),
            show=asked.get("show") or "all",
            metric=asked.get("metric", ""),
            text=asked.get("text", ""),
            page=int(page) if page.isascii() and page.isdecimal() and len(page) < 10 else 1,
        )
        return self._shown(runs, query)

    def _from_first_page(self, *values: Any) -> Updates:
        return self._turn(*values[:-1], 1)

    def _turn(self, *values: Any, step: int = 0) -> Updates:
        run, against, task, show, metric, text, page = values
        query = Query(
            run=_named(run),
            against=_named(against),
            task=_named(task),
            show=show or "all",
            metric=_named(metric),
            text=text,
            page=int(page or 1) + step,
        )
        return self._shown(list_runs(self.results), query)

    def _shown(self, runs: Mapping[str, Run], query: Query) -> Updates:
        """The items of a query; what the controls hold that does not fit the run is taken back to its default."""
        names = [(run.label, name) for name, run in runs.items()]
        if query.run in runs:
            query = _fitted(runs, query)
            run = runs[query.run]
            shows = SHOW | (SHOW_PAIR if query.against else {})
            choices: Updates = {
                self.against: gr.update(choices=[NO_RUN, *names], value=query.against or NOTHING),
                self.task: gr.update(choices=[ALL_TASKS, *run.tasks], value=query.task or NOTHING),
                self.show: gr.update(choices=_shows(shows), value=query.show),
                self.metric: gr.update(choices=[FIRST_METRIC, *run.metrics], value=query.metric or NOTHING),
                self.text: query.text,
            }
        else:
            choices = {}
        shown = choices | {self.run: gr.update(choices=names, value=query.run if query.run in runs else None)}
        try:
            page = find(runs, query)
        except InvalidRequest as error:
            return shown | {self.problem: problem_html(error), self.items: "", self.count: ""}
        here = address(
            "samples",
            {
                "run": query.run,
                "against": query.against,
                "task": query.task,
                "show": "" if query.show == "all" else query.show,
                "metric": query.metric,
                "text": query.text,
                "page": None if page.page == 1 else page.page,
            },
        )
        link = f'<p>{count_text(page)}. <a href="{escape(here)}">Address of this choice</a></p>'
        return shown | {
            self.problem: "",
            self.page: gr.update(value=page.page, label=f"Page of {page.num_pages:,}", maximum=page.num_pages),
            self.count: link,
            self.items: page_html(page, query, runs),
        }


def _named(value: str | None) -> str:
    """What a control holds; empty for nothing."""
    return "" if value is None or value == NOTHING else value


def _shows(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(text, name) for name, text in texts.items()]


def _fitted(runs: Mapping[str, Run], query: Query) -> Query:
    """The query without what its run does not have, as when another run was chosen."""
    run = runs[query.run]
    against = query.against if query.against in runs else ""
    return Query(
        run=query.run,
        against=against,
        task=query.task if query.task in run.tasks else "",
        show=query.show if query.show in SHOW or (against and query.show in SHOW_PAIR) else "all",
        metric=query.metric if query.metric in run.metrics else "",
        text=query.text,
        page=query.page,
    )

"""The Leaderboard page. What it shows is read from `results/` when it is opened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

from app.context import AppContext
from app.downloads import offer
from app.leaderboard.published import published_html
from app.leaderboard.report import report_markdown
from app.leaderboard.scores import Choice, Leaderboard, Score, read_leaderboard
from app.leaderboard.scores_csv import scores_csv
from app.leaderboard.view import boards_html
from app.look import problem_html, title_html
from app.updates import Updates
from model.interface import InvalidRequest

ABOUT = "What was measured here, with 95 % intervals, and what others published. A score leads to its items."
ALL = "all"
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it."""
    _LeaderboardPage(context)


class _LeaderboardPage:
    """The page's components and the handlers of their events."""

    def __init__(self, context: AppContext) -> None:
        self.results = context.results
        with gr.Column(elem_id="leaderboard"):
            gr.Markdown(title_html("Leaderboard", ABOUT), sanitize_html=False)
            self.problem = gr.Markdown("", elem_classes="problem", sanitize_html=False)
            with gr.Row():
                self.filters = {
                    name: gr.Dropdown([ALL], value=[ALL], multiselect=True, label=label, min_width=220)
                    for name, label in (
                        ("boards", "Suite and items"),
                        ("columns", "Benchmark"),
                        ("models", "Model"),
                        ("settings", "Setting"),
                    )
                }
            with gr.Tabs():
                with gr.Tab("Measured here"):
                    self.boards = gr.Markdown("", sanitize_html=False, latex_delimiters=[])
                    self.file = gr.DownloadButton("Export as CSV", interactive=False, size="sm")
                with gr.Tab("Published against measured"):
                    self.published = gr.Markdown("", sanitize_html=False, latex_delimiters=[])
                with gr.Tab("The whole report") as report_tab:
                    self.report = gr.Markdown("", latex_delimiters=[], elem_classes="report")
        outputs = [self.problem, *self.filters.values(), self.boards, self.published, self.file]
        inputs = list(self.filters.values())
        gr.context.Context.root_block.load(self._open, None, outputs, **_QUIET)
        for control in inputs:
            control.input(self._choose, inputs, outputs, **_QUIET)
        report_tab.select(self._report, None, self.report, **_QUIET)

    def _open(self) -> Updates:
        try:
            leaderboard = read_leaderboard(self.results)
        except InvalidRequest as error:
            return {self.problem: problem_html(error)}
        scores, figures = leaderboard.scores, leaderboard.published
        choices = {
            "boards": _unique(score.board for score in scores),
            "columns": _unique([*(score.column for score in scores), *(figure.benchmark for figure in figures)]),
            "models": _unique([*(score.model for score in scores), *(figure.model for figure in figures)]),
            "settings": _unique(score.setting for score in scores),
        }
        filters = {self.filters[name]: gr.update(choices=[ALL, *found], value=[ALL]) for name, found in choices.items()}
        return {self.problem: ""} | filters | self._show(leaderboard, Choice())

    def _choose(self, *chosen: list[str]) -> Updates:
        names = dict(zip(self.filters, map(chosen_names, chosen), strict=True))
        filters = {self.filters[name]: list(found) or [ALL] for name, found in names.items()}
        try:
            return filters | self._show(read_leaderboard(self.results), Choice(**names))
        except InvalidRequest as error:
            return {self.problem: problem_html(error)}

    def _show(self, leaderboard: Leaderboard, choice: Choice) -> Updates:
        scores: list[Score] = choice.of(leaderboard.scores)
        figures = choice.published(leaderboard.published)
        return {
            self.boards: boards_html(scores, figures),
            self.published: published_html(figures, leaderboard.scores),
            self.file: offer(self.file, "leaderboard.csv", scores_csv(scores)),
        }

    def _report(self) -> str:
        try:
            return report_markdown(self.results)
        except InvalidRequest as error:
            return str(error)


def chosen_names(values: Sequence[str]) -> tuple[str, ...]:
    """What a filter holds, none for all: all goes when something else is chosen, and all else when all is."""
    return () if values[-1:] == [ALL] else tuple(value for value in values if value != ALL)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))

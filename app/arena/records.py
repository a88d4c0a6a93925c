"""The lower half of the arena page: the ranking, and one's own votes to look at, to export and to replay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from app.arena.export import ranking_csv, ranking_json_lines, ranking_rows, votes_csv, votes_json_lines
from app.arena.ranking import rank
from app.arena.replay import Replay
from app.arena.tables import ranking_html, replay_html, vote_choice, votes_html
from app.arena.votes import Votes, comparisons, num_both_bad
from app.chat.session import LiveAnswers
from app.context import AppContext
from app.download import download_html
from app.look import problem_html
from app.updates import Updates
from model.interface import EngineError

VOTES_SHOWN = 20


class Records:
    """The components, made where it is constructed, and the handlers of their events."""

    def __init__(self, context: AppContext, votes: Votes) -> None:
        self.context = context
        self.votes = votes
        self.live = LiveAnswers()
        with gr.Accordion("Ranking", open=True, elem_id="arena-ranking"):
            self.only_blind = gr.Checkbox(False, label="Blind votes only")
            self.ranking = _html()
            self.export_ranking_button = gr.Button("Export the ranking", size="sm")
            self.ranking_files = _html()
        with gr.Accordion("Your votes", open=False, elem_id="arena-own-votes"):
            self.own_votes = _html()
            with gr.Row(elem_id="arena-replay"):
                self.chosen = gr.Dropdown([], label="Vote to replay", filterable=False, scale=4, min_width=240)
                self.replay_button = gr.Button("Replay", scale=0, min_width=110)
            self.replayed = _html()
            self.export_votes_button = gr.Button("Export all your votes", size="sm")
            self.votes_files = _html()
        at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        # Without triggers: when the page is opened, and when the checkbox changes.
        gr.on(None, self._show, [self.only_blind], self.outputs, **at_once)
        self.export_ranking_button.click(self._export_ranking, [self.only_blind], [self.ranking_files], **at_once)
        self.export_votes_button.click(self._export_votes, None, [self.votes_files], **at_once)
        self.replay_button.click(
            self._replay,
            [self.chosen],
            [self.replayed],
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )

    @property
    def outputs(self) -> list[Any]:
        """The components that `updates` gives new values."""
        return [self.ranking, self.own_votes, self.chosen]

    def updates(self, owner: str, only_blind: bool) -> Updates:
        """As things stand now, for one owner."""
        tallies = self.votes.tallies(only_blind=only_blind)
        own = self.votes.of(owner, most=VOTES_SHOWN)
        choices = [(vote_choice(vote), vote.id) for vote in own]
        return {
            self.ranking: ranking_html(rank(comparisons(tallies)), num_both_bad(tallies), only_blind=only_blind),
            self.own_votes: votes_html(own, self.votes.count(owner)),
            self.chosen: gr.update(choices=choices, value=choices[0][1] if choices else None),
        }

    def _show(self, request: gr.Request, only_blind: bool) -> Updates:
        return self.updates(self.context.owner(request), only_blind)

    def _export_ranking(self, only_blind: bool) -> str:
        tallies = self.votes.tallies(only_blind=only_blind)
        rows = ranking_rows(rank(comparisons(tallies)), num_both_bad(tallies))
        if not rows:
            return "<p>There is no ranking to export yet.</p>"
        return _files("arena-ranking", ranking_csv(rows), ranking_json_lines(rows))

    def _export_votes(self, request: gr.Request) -> str:
        votes = self.votes.of(self.context.owner(request))
        if not votes:
            return "<p>There are no votes of yours to export yet.</p>"
        return _files("arena-votes", votes_csv(votes), votes_json_lines(votes))

    async def _replay(self, request: gr.Request, identity: str | None) -> AsyncIterator[str]:
        tab = request.session_hash or ""
        self.live.discard(tab)
        try:
            vote = self.votes.get(self.context.owner(request), identity or "")
        except EngineError as error:
            yield problem_html(error)
            return
        replay = Replay(vote, self.context.engines)
        self.live.add(tab, replay)
        try:
            async for results in replay.results():
                if replay.discarded:
                    return
                yield replay_html(results, replay.num_answers)
        finally:
            replay.stop()
            self.live.remove(tab, replay)


def _html() -> gr.Markdown:
    return gr.Markdown("", sanitize_html=False, latex_delimiters=[])


def _files(name: str, csv: str, json_lines: str) -> str:
    links = (
        download_html(f"{name}.csv", csv, media_type="text/csv"),
        download_html(f"{name}.jsonl", json_lines, media_type="application/jsonl"),
    )
    return f"<p>Save as {' or '.join(links)}</p>"

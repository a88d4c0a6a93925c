"""The arena page: one prompt to two sides at once, a vote, and below it what the votes say.

The round is kept in a `gr.State`, on the server. What goes to the browser while names are hidden is made by `view.py`
from the questions and answers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from random import SystemRandom
from typing import Any

import gradio as gr

from app.arena.controls import Controls
from app.arena.duel import Duel
from app.arena.records import Records
from app.arena.round import Round, make_vote
from app.arena.view import VERDICT_WORDS, last_message, side_heading, side_messages, status_html
from app.arena.vote import Verdict
from app.arena.votes import Votes
from app.chat.dialogue import LATEX_DELIMITERS
from app.chat.session import LiveAnswers
from app.context import AppContext
from app.live_page import LastMessage, LivePage
from app.look import problem_html, title_html
from app.updates import Updates, all_unchanged
from model.interface import EngineError, InvalidRequest

ABOUT = (
    "One prompt, two answers side by side, your vote. While names are hidden, chance decides who stands on which side, "
    "anew each round."
)


def build_page(context: AppContext) -> None:
    """The page, into the Blocks around it."""
    _Arena(context)


class _Arena:
    """The page's components and the handlers of their events."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.live = LiveAnswers()
        self.votes = Votes(context.database)
        self.random = SystemRandom()
        with gr.Column(elem_id="arena"):
            _html(title_html("Arena", ABOUT))
            self.controls = Controls(context.writers)
            self.current = gr.State(None)
            with gr.Row(elem_id="arena-sides"):
                self.headings, self.chatbots = zip(*(self._side(side) for side in range(2)), strict=True)
            self.status = _html(status_html(None), elem_id="arena-status")
            with gr.Row(elem_id="arena-votes"):
                self.vote_buttons: dict[Verdict, gr.Button] = {
                    verdict: gr.Button(words, interactive=False, min_width=100)
                    for verdict, words in VERDICT_WORDS.items()
                }
            self.problem = _html("", elem_classes="problem")
            with gr.Row(elem_id="arena-write"):
                self.box = gr.Textbox(
                    label="Your prompt",
                    show_label=False,
                    placeholder="Write a prompt. Enter sends it to both, Shift+Enter starts a new line.",
                    lines=1,
                    max_lines=10,
                    scale=5,
                    elem_id="arena-message",
                )
                self.send_button = gr.Button("Send to both", variant="primary", scale=0, min_width=120)
                self.stop_button = gr.Button(
                    "Stop both", variant="stop", scale=0, min_width=120, visible=False, elem_id="arena-stop"
                )
                self.new_button = gr.Button("New round", scale=0, min_width=110, elem_id="arena-new")
            self.records = Records(context, self.votes)
        self._connect()

    def _side(self, side: int) -> tuple[gr.Markdown, gr.Chatbot]:
        letter = "AB"[side]
        with gr.Column(min_width=280):
            heading = _html(side_heading(None, side), elem_classes="arena-heading")
            chatbot = gr.Chatbot(
                label=f"Answers of {letter}",
                show_label=False,
                elem_id=f"arena-{letter.lower()}",
                elem_classes="arena-side",
                height=420,
                buttons=["copy"],
                latex_delimiters=LATEX_DELIMITERS,
                sanitize_html=True,
                allow_tags=False,
                render_markdown=True,
                line_breaks=True,
                layout="bubble",
                feedback_options=None,
                allow_file_downloads=False,
                placeholder=f"<strong>{letter}</strong>",
            )
        return heading, chatbot

    def _connect(self) -> None:
        """Events to handlers."""
        outputs = [
            self.box,
            self.current,
            *self.headings,
            *self.chatbots,
            self.status,
            *self.vote_buttons.values(),
            self.problem,
            self.send_button,
            self.stop_button,
            *self.controls.components,
            *self.records.outputs,
        ]
        at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        gr.on(
            [self.box.submit, self.send_button.click],
            self._send,
            [self.box, self.current, *self.controls.components],
            outputs,
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )
        self.stop_button.click(self._stop, None, None, **at_once)
        self.new_button.click(self._new_round, None, outputs, **at_once)
        for verdict, button in self.vote_buttons.items():
            button.click(self._voter(verdict), [self.current, self.records.only_blind], outputs, **at_once)

    async def _send(self, request: gr.Request, typed: str, current: Round | None, *controls: Any) -> Updates:
        """Both answers to what was typed; if they cannot start, say why and leave everything as it is."""
        tab = request.session_hash or ""
        page = LivePage()
        if not await page.opened():
            return all_unchanged()
        try:
            if self.live.is_answering(tab):
                raise InvalidRequest("both sides are still answering: wait for their end or press Stop both")
            if current is None or not current.is_open:
                current = self.controls.new_round(controls, self.random)
            asked = current.ask(typed)
            duel = Duel(
                [
                    (self.context.writer(contestant.model), conversation, settings)
                    for contestant, conversation, settings in zip(
                        asked.contestants, asked.conversations, asked.settings, strict=True
                    )
                ]
            )
        except EngineError as error:
            return {self.problem: problem_html(error)}
        self.live.add(tab, duel)
        try:
            first: Updates = {
                self.box: "",
                self.problem: "",
                self.send_button: gr.update(visible=False),
                self.stop_button: gr.update(visible=True),
                **self.controls.locked(True),
                **self._headings(asked),
                **self._offer_votes(False),
            }
            lasts: list[LastMessage] = []
            answered = asked
            async with aclosing(duel.updates()) as pairs:
                async for answers in pairs:
                    if duel.discarded or not page.is_open:
                        break
                    is_final = all(answer.is_final for answer in answers)
                    answered = asked.answered(answers, duel.kept) if is_final else asked.answered(answers)
                    if is_final:  # which is what the handler returns
                        continue
                    if not lasts:
                        shown = self._answers(answered)
                        await page.show(first | shown | {self.current: answered, self.status: status_html(answered)})
                        first, lasts = {}, [LastMessage(shown[chatbot]) for chatbot in self.chatbots]
                    else:
                        sides = enumerate(zip(self.chatbots, lasts, strict=True))
                        page.edit({box: last.edits(last_message(answered, side)) for side, (box, last) in sides})
            self.live.remove(tab, duel)
            if duel.discarded:  # what was sent before may arrive after the new round was shown
                return self._no_round()
            if not page.is_open:
                return all_unchanged()
            ended = {self.current: answered, self.status: status_html(answered)}
            return first | self._answers(answered) | ended | self._ended(answered)
        finally:
            duel.stop()
            self.live.remove(tab, duel)

    def _ended(self, answered: Round) -> Updates:
        """What changes when both answers have ended."""
        over: Updates = {} if answered.is_open else self._headings(answered) | self.controls.locked(False)
        return over | self._offer_votes(answered.is_votable) | self._writing(False)

    def _voter(self, verdict: Verdict) -> Callable[..., Updates]:
        """What one of the buttons does. Gradio finds the request by its annotation, which a `partial` has not."""

        def vote(request: gr.Request, current: Round | None, only_blind: bool) -> Updates:
            owner = self.context.owner(request)
            try:
                if current is None or self.live.is_answering(request.session_hash or ""):
                    raise InvalidRequest("there is nothing to vote on yet: ask something and wait for both answers")
                self.votes.add(make_vote(current, verdict, owner=owner, engines=self.context.engines))
            except EngineError as error:
                return {self.problem: problem_html(error)}
            voted = replace(current, verdict=verdict)
            return {
                self.current: voted,
                self.status: status_html(voted),
                self.problem: "",
                **self._headings(voted),
                **self._answers(voted),
                **self._offer_votes(False),
                **self.controls.locked(False),
                **self.records.updates(owner, only_blind),
            }

        return vote

    def _stop(self, request: gr.Request) -> None:
        self.live.stop(request.session_hash or "")

    def _new_round(self, request: gr.Request) -> Updates:
        self.live.discard(request.session_hash or "")
        return self._no_round()

    def _no_round(self) -> Updates:
        return {
            self.current: None,
            self.status: status_html(None),
            self.problem: "",
            **self._headings(None),
            **{chatbot: [] for chatbot in self.chatbots},
            **self._offer_votes(False),
            **self._writing(False),
            **self.controls.locked(False),
        }

    def _headings(self, current: Round | None) -> Updates:
        return {heading: side_heading(current, side) for side, heading in enumerate(self.headings)}

    def _answers(self, current: Round) -> Updates:
        return {chatbot: side_messages(current, side) for side, chatbot in enumerate(self.chatbots)}

    def _offer_votes(self, is_offered: bool) -> Updates:
        return {button: gr.update(interactive=is_offered) for button in self.vote_buttons.values()}

    def _writing(self, is_writing: bool) -> Updates:
        return {
            self.send_button: gr.update(visible=not is_writing),
            self.stop_button: gr.update(visible=is_writing),
        }


def _html(text: str, **options: Any) -> gr.Markdown:
    return gr.Markdown(text, sanitize_html=False, latex_delimiters=[], **options)

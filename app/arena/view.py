"""How a round looks: its two sides, and the sentence on where it stands."""

from __future__ import annotations

import html
from dataclasses import replace

from app.arena.round import Contestant, Round
from app.arena.vote import Verdict
from app.chat.conversation import Answer
from app.chat.view import ChatbotMessage, answer_facts, chatbot_messages

VERDICT_WORDS: dict[Verdict, str] = {"A": "A is better", "tie": "Tie", "both bad": "Both bad", "B": "B is better"}
"""In the order of their buttons."""

_PHASES = {"waiting": "Waiting for a free place", "reading": "Reading the prompt", "writing": "Writing"}


def side_heading(current: Round | None, side: int) -> str:
    """The heading over one side: its letter, and who stands there if that may be seen."""
    if current is None:
        text = ""
    elif not current.shows_names:
        text = "name hidden until you vote"
    else:
        text = contestant_name(current.contestants[side])
    return f"<h2><strong>{'AB'[side]}</strong> <span>{html.escape(text)}</span></h2>"


def contestant_name(contestant: Contestant) -> str:
    """Such as `persimmon-demo · Greedy`."""
    return f"{contestant.model} · {contestant.setting}"


def side_messages(current: Round, side: int) -> list[ChatbotMessage]:
    """One side's conversation as `gr.Chatbot` takes it. While names are hidden, so are the facts that could give them
    away: speed, numbers of tokens, seed."""
    return chatbot_messages(current.conversations[side], answer_facts if current.shows_names else blind_facts)


def last_message(current: Round, side: int) -> ChatbotMessage:
    """The last of `side_messages`, made alone."""
    conversation = current.conversations[side]
    last = replace(conversation, turns=conversation.turns[-1:])
    return chatbot_messages(last, answer_facts if current.shows_names else blind_facts)[-1]


def blind_facts(answer: Answer) -> list[str]:
    """What may be known of an answer whose writer may not."""
    if not answer.is_final:
        return [_PHASES[answer.phase]]
    reason = None if answer.outcome is None else answer.outcome.finish_reason
    return [{"stop": "Complete", "length": "**Cut off**"}.get(reason or "", "Stopped")]


def status_html(current: Round | None) -> str:
    """Where the round stands, in a sentence."""
    if current is None:
        text = "Ask something: both sides answer at the same time, then you vote."
    elif current.verdict is not None:
        names = ", ".join(
            f"{letter} was {contestant_name(contestant)}"
            for letter, contestant in zip("AB", current.contestants, strict=True)
        )
        text = f"Your vote is kept: “{VERDICT_WORDS[current.verdict]}”. {names}. What you ask next is a new round."
    elif current.has_failed:
        text = "One side failed, which says nothing of its model: no vote. What you ask next is a new round."
    elif current.is_votable:
        text = "Vote, or ask on: until the vote the sides stay, and both remember."
    else:
        text = "Both sides are answering."
    return f'<p role="status">{html.escape(text)}</p>'

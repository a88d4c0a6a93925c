"""Adept's chat format, character for character (FACTS: adept-inference's README)."""

from __future__ import annotations

import pytest

from model.chat_template import AdeptChatTemplate
from model.interface import ChatMessage, InvalidRequest

TEMPLATE = AdeptChatTemplate()
USER, ASSISTANT, PREFIX = "user", "assistant", "prefix"


def render(*turns: tuple[str, str]) -> str:
    return TEMPLATE.render([ChatMessage(role, content) for role, content in turns])  # type: ignore[arg-type]


def test_one_question() -> None:
    assert render((USER, "hi there")) == "human: hi there\n\nadept:"


def test_further_turns() -> None:
    assert render((USER, "a"), (ASSISTANT, "b"), (USER, "c")) == "human: a\n\nadept: b\n\nhuman: c\n\nadept:"


def test_prefix_comes_first_with_a_blank_line() -> None:
    assert render((PREFIX, " Be brief.\n"), (USER, "a")) == "Be brief.\n\nhuman: a\n\nadept:"
    assert render((PREFIX, "  "), (USER, "a")) == "human: a\n\nadept:"


def test_an_answer_at_the_end_is_continued() -> None:
    assert render((USER, "a"), (ASSISTANT, "b and")) == "human: a\n\nadept: b and"


def test_the_next_human_turn_is_a_stop() -> None:
    assert TEMPLATE.stop == ("\n\nhuman:",)
    assert TEMPLATE.answer(" Hello.\n") == "Hello."


@pytest.mark.parametrize(
    ("turns", "sentence"),
    [
        ((), "no user message"),
        (((PREFIX, "x"),), "no user message"),
        (((ASSISTANT, "x"),), "message 1 .* 'assistant'"),
        (((USER, "x"), (USER, "y")), "message 2 .* 'user'"),
        (((USER, "x"), (PREFIX, "y")), "message 2 .* 'prefix'"),
    ],
)
def test_turns_out_of_order_are_refused(turns: tuple[tuple[str, str], ...], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        render(*turns)

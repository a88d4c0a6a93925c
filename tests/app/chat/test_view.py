"""Markdown that shows what was written, and the facts below an answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.conversation import Answer, Conversation, Outcome
from app.chat.settings import ChatSettings
from app.chat.view import (
    FACTS_MARK,
    answer_facts,
    chatbot_messages,
    edited_text,
    escaped,
    from_markdown,
    to_markdown,
)
from model.interface import FinishReason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a < b and c<d", "a < b and c&LT;d"),
        ("<b>bold</b>", "&LT;b>bold&LT;/b>"),
        ("\\<b> &lt;b> &copy; a&b; &", "\\&LT;b> &AMP;lt;b> &AMP;copy; a&AMP;b; &"),
        ("http://host/'><b>", "http://host/'>&LT;b>"),
        ("<!-- x --><?y?>", "&LT;!-- x -->&LT;?y?>"),
        ("`<b>` and <b>", "`<\u2060b>` and &LT;b>"),
        ("``a ` <b>`` <i>", "``a ` <\u2060b>`` &LT;i>"),
        ("one ` tick <b>", "one ` tick &LT;b>"),
        ("a ` tick\n\n<b> and ` another", "a ` tick\n\n&LT;b> and ` another"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n&LT;b>"),
        ("~~~\n```\n<b>\n~~~\n<b>", "~~~\n```\n<b>\n~~~\n&LT;b>"),
        ("```\n<b>", "```\n<b>"),
        ("1. Do:\n   ```\n   <b>\n   ```\n<i>", "1. Do:\n   ```\n   <b>\n   ```\n&LT;i>"),
        ("", ""),
        ("two\nlines", "two\nlines"),
    ],
)
def test_tags_are_shown_and_code_is_left_alone(text: str, shown: str) -> None:
    assert to_markdown(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "> ```\n<form>\n> ```",
        "`a\n> <form>`",
        "`a\n- <form>`",
        "`a\n# <form>`",
        "|a|\n|-|\n|`|<form>|`|",
        "\\`<form>`",
        "[a](x`y) <form> `z",
        "``` a`b\n<form>\n```",
        "- a\n  ```\n<form>",
        "- ```\n  x\n  ```\n  <form>",
        " ```\nx\n```\n<form>",
        "```\nx\n```~\n<form>",
        "```\nx\n    ```\ny\n```\n<form>",
        "```\nx\r```\r<form>",
        "def f(x):\n  ```\n  ```\n  <form>",
    ],
)
def test_what_readers_of_markdown_may_not_take_for_code_has_no_tags(text: str) -> None:
    assert "<form" not in to_markdown(text)
    assert from_markdown(escaped(text)) == text


PIECES = [
    "<b>",
    "&lt;",
    "&LT;",
    "&AMP;LT;",
    "`",
    "``",
    "```",
    "~~~",
    "\n",
    "\n\n",
    "    ",
    "<!-- x -->",
    "a",
    " def f(x):",
]


@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
def test_escapes_can_be_undone(text: str) -> None:
    assert from_markdown(escaped(text)) == text


@pytest.mark.parametrize("text", ["a < b", "What is <b>this</b>?", "`<b>` &LT;", "x <!-- y -->", "&lt;b&gt; \\<"])
def test_an_edited_message_loses_its_escapes(text: str) -> None:
    assert edited_text(to_markdown(text)) == text
    assert edited_text(f"{FACTS_MARK}Complete") is None


def test_python_without_a_fence_gets_one() -> None:
    code = "def f(x):\n    if x < 1:\n        return '<b>'\n\n    return x\n\ndef g():\n    pass"
    assert to_markdown(f"Here:\n{code}\nThat is <all>.") == (f"Here:\n```python\n{code}\n```\nThat is &LT;all>.")
    assert to_markdown(f"```python\n{code}\n```") == f"```python\n{code}\n```"
    for prose in ("for example:\nthis", "if so: yes", "class:\n\n    quoted"):
        assert to_markdown(prose) == prose


def finished(reason: FinishReason, *, text: str = "a", limit: int = 99, **values: Any) -> Answer:
    outcome = Outcome(
        finish_reason=reason,
        num_prompt_tokens=1000,
        num_tokens=11,
        seed=7,
        queued_s=values.pop("queued_s", 0.0),
        ttft_s=values.pop("ttft_s", 0.25),
        total_s=1.25,
    )
    return Answer(
        text=text,
        phase="done",
        outcome=outcome,
        tokens_per_s=outcome.tokens_per_s,
        model="persimmon-demo",
        settings=ChatSettings(max_tokens=limit),
        **values,
    )


def test_facts_of_a_whole_answer() -> None:
    facts = [
        "Complete",
        "first token after 0.25 s",
        "10.0 tokens/s",
        "11 tokens written, 1,000 read",
        "seed 7",
    ]
    assert answer_facts(finished("stop")) == facts
    assert answer_facts(finished("stop"), names_model=True) == [*facts, "persimmon-demo"]
    assert answer_facts(finished("stop", num_given=1))[1] == "went on from 1 character"


def test_facts_say_why_an_answer_is_not_whole() -> None:
    assert answer_facts(finished("length", limit=11))[0] == "**Cut off** at the limit of 11 tokens"
    assert answer_facts(finished("length"))[0] == "**Cut off**: the context is full"
    stopped = answer_facts(finished("abort", ttft_s=None, queued_s=1.0))
    assert stopped[0] == "Stopped"
    assert not any("first token" in fact for fact in stopped)
    assert answer_facts(Answer(phase="failed", error="out of luck")) == ["**Failed**: out of luck"]
    assert answer_facts(Answer(phase="done")) == ["Stopped"]


def test_facts_while_it_runs() -> None:
    assert answer_facts(Answer(phase="waiting", place=3, elapsed_s=1.0)) == [
        "Waiting for a free place: number 3 in the queue, 1.0 s"
    ]
    assert answer_facts(Answer(phase="reading", elapsed_s=0.5)) == ["Reading the prompt, 0.5 s"]
    assert answer_facts(Answer(phase="writing", num_tokens=1)) == ["Writing", "1 token"]
    waited = finished("stop", queued_s=0.2)
    assert "first token after 0.25 s (0.20 s of it in the queue)" in answer_facts(waited)


def test_each_answer_is_its_text_and_its_facts() -> None:
    conversation = Conversation().ask("<q>").answered(finished("stop", text="```\nopen")).ask("next")
    messages = chatbot_messages(conversation)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    texts = [[part["text"] for part in message["content"]] for message in messages]  # type: ignore[attr-defined]
    assert texts[0] == ["&LT;q>"]
    assert texts[1][0] == "```\nopen"
    assert texts[1][1].startswith(f"{FACTS_MARK}Complete · first token after")
    running = chatbot_messages(Conversation().ask("q").answered(Answer()))[1]
    assert running["content"][0]["text"] == "…"  # type: ignore[index]

"""How texts and answers look on a page: Markdown made safe and faithful, and the line of facts below an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.chat.conversation import Answer, Conversation

ChatbotMessage = dict[str, object]

NOTHING_WRITTEN = "…"
FACTS_MARK = "\u2063"  # invisible separator; clipboard.js knows by it what is not part of the answer

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_TAG_OR_ENTITY_START = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
# Character references that browsers know and nobody writes, so that they can be told from a text's own and undone.
# A backslash would not do: inside an address it is part of the address, and the tag after it is one.
_ESCAPES = {"<": "&LT;", "&": "&AMP;"}
_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)[^`].*?(?<!`)\1(?!`)", re.DOTALL)
_BLANK_LINES = re.compile(r"(\n[ \t]*\n)")
_PYTHON_BLOCK = re.compile(r"^(?:async def|def|class|for|while|if|with|try)\b.*:\s*(?:#.*)?$")
_PYTHON_LINE = re.compile(
    r"^(?:\s+\S|@\w|(?:async def|def|class|for|while|if|elif|else|try|except|finally|with)\b.*:|return\b|assert\b)"
)


def to_markdown(text: str) -> str:
    """Markdown that shows `text` as it was written.

    HTML tags and character references outside code are escaped: they are seen and do nothing. Python that came
    without a code fence gets one, since Markdown would drop its indentation.
    """
    return "\n".join(part if is_code else _escape_tags(part) for is_code, part in _parts(text.split("\n")))


def from_markdown(text: str) -> str:
    """Undoes the escapes of `to_markdown` in a message that was edited where it is shown; a code fence stays."""
    for character, escape in _ESCAPES.items():
        text = text.replace(escape, character)
    return text


def _parts(lines: list[str]) -> Iterator[tuple[bool, str]]:
    """The text as runs of lines, each with whether it is fenced code."""
    prose: list[str] = []
    at = 0
    while at < len(lines):
        end, code = _fenced(lines, at)
        if not code:
            end, code = _unfenced_python(lines, at)
        if code:
            if prose:
                yield False, "\n".join(prose)
                prose = []
            yield True, "\n".join(code)
            at = end
        else:
            prose.append(lines[at])
            at += 1
    if prose:
        yield False, "\n".join(prose)


def _fenced(lines: list[str], start: int) -> tuple[int, list[str]]:
    """The fenced code block that begins at this line: where it ends, and its lines; none if none begins."""
    mark = _FENCE.match(lines[start])
    if mark is None:
        return start, []
    for end in range(start + 1, len(lines)):
        closing = lines[end].strip()
        if closing.startswith(mark.group(1)) and not closing.strip(mark.group(1)[0]):
            return end + 1, lines[start : end + 1]
    return len(lines), lines[start:]


def _unfenced_python(lines: list[str], start: int) -> tuple[int, list[str]]:
    """As `_fenced`, for a Python block (a `def …:` with an indented line after it) without a fence."""
    is_block = _PYTHON_BLOCK.match(lines[start]) and start + 1 < len(lines) and lines[start + 1][:1] in (" ", "\t")
    if not is_block:
        return start, []
    end = last = start + 1
    while end < len(lines) and (not lines[end].strip() or _PYTHON_LINE.match(lines[end])):
        if lines[end].strip():
            last = end
        end += 1
    return last + 1, ["```python", *lines[start : last + 1], "```"]


def _escape_tags(prose: str) -> str:
    """Paragraph by paragraph, since a code span cannot reach over a blank line."""
    return "".join(_escape_paragraph(paragraph) for paragraph in _BLANK_LINES.split(prose))


def _escape_paragraph(paragraph: str) -> str:
    shown = ""
    at = 0
    for code in _INLINE_CODE.finditer(paragraph):
        shown += _TAG_OR_ENTITY_START.sub(_escape, paragraph[at : code.start()]) + code.group()
        at = code.end()
    return shown + _TAG_OR_ENTITY_START.sub(_escape, paragraph[at:])


def _escape(character: re.Match[str]) -> str:
    return _ESCAPES[character.group()]


def answer_facts(answer: Answer, context_length: int) -> list[str]:
    """Short statements on an answer, in the order to be shown: what it is doing, or how it ended and what it took."""
    if answer.error is not None:
        return [f"**Failed**: {answer.error}"]
    if answer.phase == "waiting":
        return [f"Waiting for a free place, {answer.num_waiting} in the queue, {answer.elapsed_s:.1f} s"]
    if answer.phase == "reading":
        return [f"Reading the prompt, {answer.elapsed_s:.1f} s"]
    speed = None if answer.tokens_per_s is None else f"{answer.tokens_per_s:,.1f} tokens/s"
    if answer.phase == "writing":
        return ["Writing", _count(answer.num_tokens, "token"), *([speed] if speed else [])]
    completion = answer.completion
    if completion is None:
        return ["Stopped"]
    timing = completion.timing
    num_tokens = len(completion.token_ids)
    facts = [how_it_ended(answer)]
    if timing.ttft_s is not None:
        waited = f" ({timing.queued_s:.2f} s of it in the queue)" if timing.queued_s >= 0.1 else ""
        facts.append(f"first token after {timing.ttft_s:.2f} s{waited}")
    if speed is not None:
        facts.append(speed)
    facts.append(_count(num_tokens, "token"))
    facts.append(f"context {completion.num_prompt_tokens + num_tokens:,} of {context_length:,}")
    facts.append(f"seed {completion.seed}")
    return facts


def how_it_ended(answer: Answer) -> str:
    """Why a finished answer has no more text."""
    completion = answer.completion
    if completion is None or completion.finish_reason == "abort":
        return "Stopped"
    if completion.finish_reason == "length":
        if answer.max_tokens is not None and len(completion.token_ids) >= answer.max_tokens:
            return f"**Cut off** at the limit of {_count(answer.max_tokens, 'token')}"
        return "**Cut off**: the context is full"
    return "Complete"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def chatbot_messages(conversation: Conversation, context_length: int) -> list[ChatbotMessage]:
    """The conversation as `gr.Chatbot` takes it: each answer has two parts, its text and its line of facts.

    The facts are a part of their own so that an unclosed code block cannot swallow them, and plain text because the
    chatbot's label for screen readers is made from it.
    """
    messages: list[ChatbotMessage] = []
    for turn in conversation.turns:
        messages.append({"role": "user", "content": [_text(to_markdown(turn.question))]})
        if turn.answer is not None:
            facts = " · ".join(answer_facts(turn.answer, context_length))
            text = to_markdown(turn.answer.text) or NOTHING_WRITTEN
            messages.append({"role": "assistant", "content": [_text(text), _text(FACTS_MARK + _escape_tags(facts))]})
    return messages


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}

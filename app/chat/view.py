"""How texts and answers look on a page: Markdown made safe and faithful, and the line of facts below an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from app.chat.conversation import Answer, Conversation

ChatbotMessage = dict[str, object]
Kind: TypeAlias = Literal["prose", "code", "doubt"]

NOTHING_WRITTEN = "…"
FACTS_MARK = "\u2063"  # invisible separator; clipboard.js knows by it what is not part of the answer

_FENCE = re.compile(r"^( {0,3})(`{3,}(?=[^`]*$)|~{3,})")
# Where fences stand in lists and quotes, readers of Markdown differ on what is code; a lone \r is a line's end to some.
_FENCE_IN_DOUBT = re.compile(r"^[\s>*+\-\d.)]*(?:`{3,}(?=[^`]*$)|~{3,})|\r")
_TAG_OR_ENTITY_START = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
# Character references that browsers know and nobody writes, so that they can be told from a text's own and undone.
# A backslash would not do: inside an address it is part of the address, and the tag after it is one.
_ESCAPES = {"<": "&LT;", "&": "&AMP;"}
_ESCAPE = re.compile("|".join(_ESCAPES.values()))
# In code a character reference would be seen. An invisible word joiner makes a tag none, wherever it stands.
_TAG_START = re.compile(r"<(?=\u2060*[A-Za-z/!?])")
_JOINED_TAG_START = re.compile(r"<\u2060(?=\u2060*[A-Za-z/!?])")
_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)[^`].*?(?<!`)\1(?!`)", re.DOTALL)
_BLANK_LINES = re.compile(r"(\n[ \t]*\n)")
_PYTHON_BLOCK = re.compile(r"^(?:async def|def|class|for|while|if|with|try)\b.*:\s*(?:#.*)?$")
_PYTHON_LINE = re.compile(
    r"^(?:\s+\S|@\w|(?:async def|def|class|for|while|if|elif|else|try|except|finally|with)\b.*:|return\b|assert\b)"
)


def to_markdown(text: str) -> str:
    """Markdown that shows `text` as it was written.

    HTML tags are escaped: they are seen and do nothing. Character references are too, outside code. Only what is a
    fenced block of code to every reader of Markdown stays as it is. Python that came without a code fence gets one,
    since Markdown would drop its indentation.
    """
    return _outside_fences(text, _escape_tags, _join_tags, finds_python=True)


def escaped(text: str) -> str:
    """As `to_markdown`, adding no fences, so that `from_markdown` gives back exactly `text`."""
    return _outside_fences(text, _escape_tags, _join_tags)


def from_markdown(text: str) -> str:
    """Undoes the escapes of `to_markdown`, in a message that was edited where it is shown; a code fence stays."""
    return _outside_fences(text, _unescape, _unjoin_tags)


def unclosed_fence(text: str) -> str:
    """The mark that would end the code block that a text leaves open, or nothing."""
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if not fence:
            fence = mark.group(2) if mark else ""
        elif _ends(line, fence):
            fence = ""
    return fence


Change: TypeAlias = Callable[[str], str]


def _outside_fences(text: str, in_prose: Change, in_doubt: Change, *, finds_python: bool = False) -> str:
    """The text with all that is not fenced code changed: prose paragraph by paragraph, since a code span cannot reach
    over a blank line; spans, which not every reader ends where we do, and what may be code or not, in the other way."""
    changed = []
    for kind, part in _parts(text.split("\n"), finds_python=finds_python):
        if kind == "code":
            changed.append(part)
        elif kind == "doubt":
            changed.append(in_doubt(part))
        else:
            changed.append("".join(_with_spans(one, in_prose, in_doubt) for one in _BLANK_LINES.split(part)))
    return "\n".join(changed)


def _with_spans(paragraph: str, in_prose: Change, in_span: Change) -> str:
    shown = ""
    at = 0
    for code in _INLINE_CODE.finditer(paragraph):
        shown += in_prose(paragraph[at : code.start()]) + in_span(code.group())
        at = code.end()
    return shown + in_prose(paragraph[at:])


def _join_tags(code: str) -> str:
    return _TAG_START.sub("<\u2060", code)


def _unjoin_tags(code: str) -> str:
    return _JOINED_TAG_START.sub("<", code)


def _escape_tags(prose: str) -> str:
    return _TAG_OR_ENTITY_START.sub(lambda found: _ESCAPES[found.group()], prose)


def _unescape(prose: str) -> str:
    return _ESCAPE.sub(lambda found: "<" if found.group() == "&LT;" else "&", prose)


def _parts(lines: list[str], *, finds_python: bool) -> Iterator[tuple[Kind, str]]:
    """The text as runs of lines, each with what it is. From the first line in doubt on, all is."""
    prose: list[str] = []
    at = 0
    is_sure = True
    while at < len(lines) and is_sure:
        end, code, is_sure = _fenced(lines, at)
        if not code and is_sure and finds_python:
            end, code = _unfenced_python(lines, at)
        if code:
            if prose:
                yield "prose", "\n".join(prose)
                prose = []
            yield "code", "\n".join(code)
            at = end
        elif is_sure:
            prose.append(lines[at])
            at += 1
    if prose:
        yield "prose", "\n".join(prose)
    if at < len(lines):
        yield "doubt", "\n".join(lines[at:])


def _fenced(lines: list[str], start: int) -> tuple[int, list[str], bool]:
    """The fenced code block that begins at this line: where it ends, its lines, and whether it is sure what follows;
    no lines if none begins. An indented fence may stand in a list, which a line that is less indented ends."""
    mark = _FENCE.match(lines[start])
    if mark is None or "\r" in lines[start]:
        return start, [], not _FENCE_IN_DOUBT.search(lines[start])
    indent, fence = mark.groups()
    for end in range(start + 1, len(lines)):
        line = lines[end]
        if "\r" in line or (line.strip() and not line.startswith(indent)):
            return end, lines[start:end], False
        if re.fullmatch(rf" {{0,3}}{fence}{fence[0]}* *", line):
            return end + 1, lines[start : end + 1], True
        if line.strip().startswith(fence) and not line.strip().strip("`~"):
            return end, lines[start:end], False
    return len(lines), lines[start:], True


def _ends(line: str, fence: str) -> bool:
    return line.strip().startswith(fence) and not line.strip().strip(fence[0])


def _unfenced_python(lines: list[str], start: int) -> tuple[int, list[str]]:
    """Where a Python block (a `def …:` with an indented line after it) without a fence ends, and its lines with one; no
    lines if none begins."""
    is_block = _PYTHON_BLOCK.match(lines[start]) and start + 1 < len(lines) and lines[start + 1][:1] in (" ", "\t")
    if not is_block:
        return start, []
    end = last = start + 1
    while end < len(lines) and (not lines[end].strip() or _PYTHON_LINE.match(lines[end])):
        if lines[end].strip():
            last = end
        end += 1
    block = lines[start : last + 1]
    if any("```" in line or "\r" in line for line in block):  # which could end the fence around it
        return start, []
    return last + 1, ["```python", *block, "```"]


def answer_facts(answer: Answer, *, names_model: bool = False) -> list[str]:
    """Short statements on an answer, in the order to be shown: what it is doing, or how it ended and what it took."""
    if answer.error is not None:
        return [f"**Failed**: {answer.error}"]
    if answer.phase == "waiting":
        return [f"Waiting for a free place: number {answer.place} in the queue, {answer.elapsed_s:.1f} s"]
    if answer.phase == "reading":
        return [f"Reading the prompt, {answer.elapsed_s:.1f} s"]
    speed = [] if answer.tokens_per_s is None else [f"{answer.tokens_per_s:,.1f} tokens/s"]
    if answer.phase == "writing":
        return ["Writing", _count(answer.num_tokens, "token"), *speed]
    model = [answer.model] if names_model and answer.model else []
    outcome = answer.outcome
    if outcome is None:
        return [how_it_ended(answer), *model]
    facts = [how_it_ended(answer)]
    if answer.num_given:
        facts.append(f"went on from {_count(answer.num_given, 'character')}")
    if outcome.ttft_s is not None:
        waited = f" ({outcome.queued_s:.2f} s of it in the queue)" if outcome.queued_s >= 0.1 else ""
        facts.append(f"first token after {outcome.ttft_s:.2f} s{waited}")
    facts += speed
    facts.append(f"{_count(outcome.num_tokens, 'token')} written, {outcome.num_prompt_tokens:,} read")
    facts.append(f"seed {outcome.seed}")
    return facts + model


def how_it_ended(answer: Answer) -> str:
    """Why a finished answer has no more text."""
    outcome = answer.outcome
    if outcome is None or outcome.finish_reason == "abort":
        return "Stopped"
    if outcome.finish_reason == "length":
        limit = None if answer.settings is None else answer.settings.max_tokens
        if limit is not None and outcome.num_tokens >= limit:
            return f"**Cut off** at the limit of {_count(int(limit), 'token')}"
        return "**Cut off**: the context is full"
    return "Complete"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def chatbot_messages(
    conversation: Conversation, facts: Callable[[Answer], Sequence[str]] = answer_facts
) -> list[ChatbotMessage]:
    """The conversation as `gr.Chatbot` takes it: each answer has two parts, its text and its line of `facts`.

    The facts are a part of their own so that an unclosed code block cannot swallow them, and plain text because the
    chatbot's label for screen readers is made from it.
    """
    messages: list[ChatbotMessage] = []
    for turn in conversation.turns:
        messages.append({"role": "user", "content": [_text(to_markdown(turn.question))]})
        if turn.answer is not None:
            messages.append(answer_message(turn.answer, facts(turn.answer)))
    return messages


def answer_message(answer: Answer, facts: Sequence[str]) -> ChatbotMessage:
    """An answer as `chatbot_messages` has it."""
    line = FACTS_MARK + _escape_tags(" · ".join(facts))
    text = to_markdown(answer.text) or NOTHING_WRITTEN
    return {"role": "assistant", "content": [_text(text), _text(line)]}


def edited_text(value: object) -> str | None:
    """What somebody wrote in place of a chatbot's message; `None` for the line of facts, which comes along with it."""
    text = str(value)
    return None if text.startswith(FACTS_MARK) else from_markdown(text)


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}

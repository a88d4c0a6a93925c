"""Conversations as files: JSON, which holds everything, and Markdown, for people, which comes back too."""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.chat.conversation import Answer, Conversation, Turn
from app.chat.view import answer_facts, escaped, from_markdown, unclosed_fence
from model.interface import InvalidRequest

FORMAT, VERSION = "persimmon-workbench conversations", 1
MAX_IMPORT_BYTES = 8 * 2**20
_CONVERSATIONS: TypeAdapter[list[Conversation]] = TypeAdapter(list[Conversation])
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
_FIRST_MARK = re.compile(r"^<!-- (workbench-[0-9a-f]{8}) conversation (\{.*\}) -->$", re.MULTILINE)


def to_json(conversations: Sequence[Conversation]) -> str:
    """All of them, with models, settings and what each answer took."""
    content = _CONVERSATIONS.dump_python(list(conversations), mode="json")
    return json.dumps({"format": FORMAT, "version": VERSION, "conversations": content}, ensure_ascii=False, indent=1)


def to_readable(conversation: Conversation) -> str:
    """Markdown with the messages as they were written, HTML in them escaped.

    Comments mark where each message begins, with what belongs to it, so that `imported` gives back the same. Their name
    is one that the messages do not hold.
    """
    texts = [text for turn in conversation.turns for text in (turn.question, turn.answer.text if turn.answer else "")]
    mark = f"workbench-{secrets.token_hex(4)}"
    while any(mark in text for text in texts):
        mark = f"workbench-{secrets.token_hex(4)}"
    head = {"version": VERSION, "title": conversation.title}
    parts = [f"# {escaped(conversation.shown_title)}", _comment(mark, "conversation", head)]
    for turn in conversation.turns:
        parts += ["## Question", _comment(mark, "question", {}), *_message(mark, turn.question)]
        answer = turn.answer
        if answer is not None:
            facts = " · ".join(answer_facts(answer)).replace("*", "")
            parts += [
                f"## {escaped(answer.model) or 'Answer'}",
                _comment(mark, "answer", asdict(replace(answer, text=""))),
                *_message(mark, answer.text),
                escaped(f"*{facts}*"),
                *([f"*{escaped(_settings(answer))}*"] if answer.settings else []),
            ]
    return "\n\n".join(parts) + "\n"


def imported(name: str, data: bytes) -> list[Conversation]:
    """What a file holds that `to_json` or `to_readable` made, as new conversations.

    Raises:
        InvalidRequest: it is something else.
    """
    if len(data) > MAX_IMPORT_BYTES:
        raise InvalidRequest(
            f"{name} has {len(data):,} bytes: a file of conversations has at most {MAX_IMPORT_BYTES:,}"
        )
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        conversations = _from_json(text) if text.lstrip().startswith("{") else [_from_readable(text)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # ValidationError and JSONDecodeError too
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else _reason(error)
        raise InvalidRequest(
            f"{name} cannot be imported ({why}): choose a JSON or Markdown file that was exported here"
        ) from error
    found = [one for one in conversations if one.turns]
    if not found:
        raise InvalidRequest(f"{name} holds no messages: there is nothing to import")
    return [replace(_ended(one), identity=uuid.uuid4().hex) for one in found]


def file_name(title: str, ending: str) -> str:
    """A name for a file that every system takes: `What is 3 + 4?` is `what-is-3-4.md`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return f"{'-'.join(re.findall('[a-z0-9]+', plain))[:60].strip('-') or 'conversation'}.{ending}"


def _from_json(text: str) -> list[Conversation]:
    content = json.loads(text)
    if content["format"] != FORMAT or content["version"] != VERSION:
        raise ValueError(f"its format is {str(content['format'])[:80]!r}, version {str(content['version'])[:20]}")
    return _CONVERSATIONS.validate_python(content["conversations"])


def _from_readable(text: str) -> Conversation:
    first = _FIRST_MARK.search(text)
    if first is None:
        raise ValueError("no mark of an exported conversation is in it")
    mark, head = first.group(1), json.loads(first.group(2))
    message = re.compile(
        rf"^<!-- {mark} (question|answer) (\{{[^\n]*\}}) -->\n\n(.*?)\n\n<!-- {mark} end \{{\}} -->$",
        re.DOTALL | re.MULTILINE,
    )
    turns: list[Turn] = []
    for kind, details, shown in message.findall(text):
        written = from_markdown(shown)
        if kind == "question":
            turns.append(Turn(written))
        else:
            answer = _ANSWER.validate_python(json.loads(details) | {"text": written})
            turns[-1] = Turn(turns[-1].question, answer)
    return Conversation(turns=tuple(turns), title=str(head["title"]))


def _comment(mark: str, kind: str, data: dict[str, Any]) -> str:
    """One line; nothing in it can end the comment."""
    content = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
    return f"<!-- {mark} {kind} {content} -->"


def _message(mark: str, text: str) -> list[str]:
    """A message up to its end; where it leaves a code block open, that ends after it."""
    fence = unclosed_fence(text)
    return [escaped(text), _comment(mark, "end", {}), *([fence] if fence else [])]


def _settings(answer: Answer) -> str:
    values = asdict(answer.settings) if answer.settings else {}
    return ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value != "")


def _ended(conversation: Conversation) -> Conversation:
    """With no answer that waits for its end."""
    turns = (
        Turn(turn.question, turn.answer and replace(turn.answer, phase="failed" if turn.answer.error else "done"))
        for turn in conversation.turns
    )
    return replace(conversation, turns=tuple(turns))


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) or type(error).__name__

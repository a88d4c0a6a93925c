"""What is trained on: documents made of spans, read from JSONL or CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from model.chat_template import TurnTemplate
from model.interface import ChatMessage, EngineError

KINDS = "prompt and answer, messages, text, or spans"
ROLES = {"user": "user", "assistant": "assistant", "prefix": "prefix", "system": "prefix"}
"""Roles in a file's `messages`, and ours. No family here has a system role: such a text is put before all else."""
LONGEST_CELL = 2**31 - 1  # characters; Python's default of 131,072 is for spreadsheets


class DataError(EngineError):
    """A file of examples cannot be used; the text is one sentence naming the file and the line."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text whose tokens count `weight` in the loss (0 or more, dimensionless)."""

    text: str
    weight: float


Document: TypeAlias = list[Span]


def text_of(document: Document) -> str:
    """A document's spans in one."""
    return "".join(span.text for span in document)


def read_documents(
    path: Path, template: TurnTemplate, *, data_format: str = "chat", prompt_weight: float = 0.0
) -> Iterator[Document]:
    """Documents of a `.jsonl` or `.csv` file, in the file's order.

    A row is one of: `prompt` and `answer`; `messages` (JSONL only), turns with `role` and `content`; `text`, all of
    which is learnt; `spans` (JSONL only), pairs of text and weight. Other columns are ignored.

    Args:
        template: how the family writes a conversation.
        data_format: `chat` renders a prompt and its answer as a conversation of one turn, `plain` as they stand.
        prompt_weight: weight of what the model reads; what it has to write weighs 1.

    Raises:
        DataError: the file or a row breaks a rule.
    """
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows}
    ending = path.suffix.lower()
    if ending not in readers:
        raise DataError(f"{path} is neither .jsonl nor .csv: give the file one of these endings")
    if not path.is_file():
        raise DataError(f"{path} is not there: check the path")
    empty = True
    for line, row in readers[ending](path):
        empty = False
        try:
            document = document_of(row, template, data_format=data_format, prompt_weight=prompt_weight)
            text_of(document).encode()
        except EngineError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
        except UnicodeEncodeError:  # JSON can write down half a character, such as "\ud83d"
            raise DataError(f"{path}, line {line}: a text has half a surrogate pair: write whole characters") from None
        yield document
    if empty:
        raise DataError(f"{path} has no rows: add some")


def document_of(row: Mapping[str, Any], template: TurnTemplate, *, data_format: str, prompt_weight: float) -> Document:
    """One row as a document, see :func:`read_documents`.

    Raises:
        DataError: the row breaks a rule.
        InvalidRequest: messages out of turn.
    """
    given = [kind for kind in ("prompt", "messages", "text", "spans") if row.get(kind) is not None]
    if len(given) != 1:
        raise DataError(f"a row has {KINDS}: this one has {' and '.join(given) if given else 'none of them'}")
    if given == ["spans"]:
        return _spans(row["spans"])
    if given == ["text"]:
        return [Span(_string(row, "text"), 1.0)]
    if given == ["messages"]:
        return conversation(template, _messages(row["messages"]), prompt_weight=prompt_weight)
    prompt, answer = _string(row, "prompt", may_be_empty=data_format == "plain"), _string(row, "answer")
    if data_format == "plain":
        return [Span(prompt, prompt_weight), Span(answer, 1.0)]
    messages = [ChatMessage("user", prompt), ChatMessage("assistant", answer)]
    return conversation(template, messages, prompt_weight=prompt_weight)


def conversation(template: TurnTemplate, messages: Sequence[ChatMessage], *, prompt_weight: float) -> Document:
    """A conversation that ends with an answer, rendered as `template.render` does.

    What closes an earlier answer, up to where the person's next words begin, is part of what the model learns to write:
    at that mark a client cuts.

    Raises:
        DataError: the last turn is no answer.
        InvalidRequest: turns out of order.
    """
    if not messages or messages[-1].role != "assistant":
        raise DataError("a conversation must end with an answer: add an assistant message")
    document: Document = []
    rendered = ""
    for count, message in enumerate(messages, start=1):
        if message.role != "assistant":
            continue
        asked = template.render(messages[: count - 1])
        answered = template.render(messages[:count])
        closed = rendered and f"{template.separator}{template.user}"
        document += [
            *([Span(closed, 1.0)] if closed else []),
            Span(asked[len(rendered) + len(closed) :], prompt_weight),
            Span(answered[len(asked) :], 1.0),
        ]
        rendered = answered
    return document


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as stream:  # with or without a byte order mark
        try:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets
                    raise DataError(
                        f"{path}, line {number}: this is no JSON ({getattr(error, 'msg', error)}): write one object"
                    ) from None
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}: this is no JSON object: write one with {KINDS}")
                yield number, row
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        line = 1  # where a row begins; it may have several
        try:
            columns = next(reader, [])
            if "text" not in columns and not {"prompt", "answer"} <= set(columns):
                raise DataError(
                    f"{path} has the columns {', '.join(columns) or '(none)'}: it needs prompt and answer, or text"
                )
            for column in columns:
                if columns.count(column) > 1:
                    raise DataError(f"{path} has the column {column} more than once: rename one")
            line = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(columns):
                    raise DataError(f"{path}, line {line}: this row has {len(cells)} columns instead of {len(columns)}")
                if cells:
                    row = dict(zip(columns, cells, strict=True))
                    yield line, {key: row[key] for key in ("prompt", "answer", "text") if key in row}
                line = reader.line_num + 1
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from None
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: this is no CSV ({error}): check the quotes") from None


def _string(row: Mapping[str, Any], key: str, *, may_be_empty: bool = False) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not (may_be_empty or value.strip()):
        raise DataError(f"{key}={value!r} is not allowed: it must be a text that is not empty")
    return value


def _messages(value: object) -> list[ChatMessage]:
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise DataError("messages is no list of objects: write a list of role and content")
    messages: list[ChatMessage] = []
    for message in value:
        given = message.get("role")
        if not isinstance(given, str) or given not in ROLES:
            raise DataError(f"role={given!r} is not allowed: use {', '.join(ROLES)}")
        if ROLES[given] == "prefix" and messages:
            raise DataError(f"role={given!r} is not allowed after other messages: put it first")
        messages.append(ChatMessage(ROLES[given], _string(message, "content")))  # type: ignore[arg-type]
    return messages


def _spans(value: object) -> Document:
    if not isinstance(value, list) or not value:
        raise DataError("spans is no list: write pairs of text and weight")
    document = []
    for pair in value:
        match pair:
            case [str(text), float() | int() as weight] if not isinstance(weight, bool) and 0 <= weight < math.inf:
                document.append(Span(text, float(weight)))
            case _:
                raise DataError(f"{pair!r} is no span: write a text and a weight of 0 or more")
    if not any(span.weight and span.text for span in document):
        raise DataError("no span has a weight above 0: nothing would be learnt from it")
    return document

"""Conversations in the app's database, each with its owner."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from app.chat.conversation import Conversation, Turn
from app.store import Database

TURNS: TypeAdapter[tuple[Turn, ...]] = TypeAdapter(tuple[Turn, ...])

_STEPS = [
    """CREATE TABLE conversations (
        owner TEXT NOT NULL,
        identity TEXT NOT NULL,
        title TEXT NOT NULL,
        folded_title TEXT NOT NULL,
        beginning TEXT NOT NULL,
        folded_text TEXT NOT NULL,
        num_turns INTEGER NOT NULL,
        turns TEXT NOT NULL,
        changed_s REAL NOT NULL,
        PRIMARY KEY (owner, identity)
    )""",
    "CREATE INDEX conversations_by_change ON conversations (owner, changed_s)",
]


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation as a list shows it."""

    identity: str
    title: str
    num_turns: int


class ConversationStore:
    """Everything here is about one owner's conversations, and no other's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("conversations", _STEPS)

    def add(self, owner: str, conversation: Conversation) -> None:
        """Keep it, in place of what was kept of it before. Its title is kept once and then changed by `rename` only."""
        with self._database.transaction() as connection:
            connection.execute(
                """INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET beginning = excluded.beginning, folded_text = excluded.folded_text,
                num_turns = excluded.num_turns, turns = excluded.turns, changed_s = excluded.changed_s""",
                (owner, conversation.identity, conversation.title, conversation.title.casefold(), *_row(conversation)),
            )

    def update(self, owner: str, conversation: Conversation) -> None:
        """As `add`, but what was deleted meanwhile stays so."""
        with self._database.transaction() as connection:
            connection.execute(
                """UPDATE conversations SET beginning = ?, folded_text = ?, num_turns = ?, turns = ?, changed_s = ?
                WHERE owner = ? AND identity = ?""",
                (*_row(conversation), owner, conversation.identity),
            )

    def load(self, owner: str, identity: str) -> Conversation | None:
        """One conversation, if the owner has it."""
        rows = self._database.read(
            "SELECT title, turns FROM conversations WHERE owner = ? AND identity = ?", owner, identity
        )
        if not rows:
            return None
        title, turns = rows[0]
        return Conversation(turns=TURNS.validate_json(str(turns)), title=str(title), identity=identity)

    def load_all(self, owner: str) -> list[Conversation]:
        """All conversations, the last changed one first."""
        rows = self._database.read(
            "SELECT title, turns, identity FROM conversations WHERE owner = ? ORDER BY changed_s DESC", owner
        )
        return [
            Conversation(turns=TURNS.validate_json(str(turns)), title=str(title), identity=str(identity))
            for title, turns, identity in rows
        ]

    def listed(self, owner: str, *, words: str = "", limit: int = 200) -> list[Listed]:
        """The last changed ones, first of all the last, in whose title or messages all `words` are."""
        query = "SELECT identity, title, beginning, num_turns FROM conversations WHERE owner = ?"
        values = [owner]
        for word in words.casefold().split():
            query += " AND (instr(folded_title, ?) OR instr(folded_text, ?))"
            values += [word, word]
        rows = self._database.read(f"{query} ORDER BY changed_s DESC LIMIT ?", *values, limit)
        return [
            Listed(str(identity), str(title or beginning), int(str(num_turns)))
            for identity, title, beginning, num_turns in rows
        ]

    def rename(self, owner: str, identity: str, title: str) -> None:
        """Give it another title; an empty one makes its beginning its title again."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE conversations SET title = ?, folded_title = ? WHERE owner = ? AND identity = ?",
                (title, title.casefold(), owner, identity),
            )

    def delete(self, owner: str, identity: str) -> None:
        """Forget it."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM conversations WHERE owner = ? AND identity = ?", (owner, identity))


def _row(conversation: Conversation) -> tuple[str, str, int, str, float]:
    """What changes with every turn."""
    beginning = replace(conversation, title="").shown_title
    texts = [text for turn in conversation.turns for text in (turn.question, turn.answer and turn.answer.text) if text]
    turns = TURNS.dump_json(conversation.turns).decode()
    return beginning, "\n".join(texts).casefold(), len(conversation.turns), turns, time.time()

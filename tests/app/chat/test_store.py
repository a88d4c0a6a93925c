"""Conversations in the database: each owner's own, found again after a restart."""

from __future__ import annotations

from pathlib import Path

from app.chat.conversation import Answer, Conversation, Outcome
from app.chat.settings import ChatSettings
from app.chat.store import ConversationStore
from app.store import Database

OUTCOME = Outcome(
    finish_reason="length", num_prompt_tokens=9, num_tokens=2, seed=7, queued_s=0.1, ttft_s=None, total_s=1.5
)
ANSWER = Answer(text="é <b>\n", phase="done", num_given=1, model="m", settings=ChatSettings(top_k=4), outcome=OUTCOME)


def titles(store: ConversationStore, owner: str, words: str = "") -> list[str]:
    return [one.title for one in store.listed(owner, words=words)]


def test_a_conversation_is_the_same_after_a_restart(tmp_path: Path) -> None:
    conversation = Conversation(title="Named").ask("What?").answered(ANSWER).ask("And?")
    database = Database(tmp_path / "app.sqlite3")
    ConversationStore(database).add("ada", conversation)
    database.close()

    again = Database(tmp_path / "app.sqlite3")
    store = ConversationStore(again)
    found = store.load("ada", conversation.identity)
    assert found is not None
    assert (found, found.identity) == (conversation, conversation.identity)
    assert [(one.identity, one.title, one.num_turns) for one in store.listed("ada")] == [
        (conversation.identity, "Named", 2)
    ]
    again.close()


def test_owners_see_their_own_only() -> None:
    store = ConversationStore(Database(None))
    one = Conversation().ask("secret")
    store.add("ada", one)
    assert store.load("bob", one.identity) is None
    assert (store.listed("bob"), store.load_all("bob")) == ([], [])
    store.rename("bob", one.identity, "mine")
    store.delete("bob", one.identity)
    store.update("bob", one.ask("more"))
    assert store.load_all("ada") == [one]


def test_the_last_changed_is_first_and_words_are_found_in_titles_and_messages() -> None:
    store = ConversationStore(Database(None))
    first, second, third = (Conversation().ask(text) for text in ("Straße 100%", "über alles", "third"))
    for one in (first, second, third):
        store.add("ada", one)
    store.update("ada", first.answered(ANSWER))
    assert titles(store, "ada") == ["Straße 100%", "third", "über alles"]
    assert titles(store, "ada", "STRASSE é") == ["Straße 100%"]
    assert titles(store, "ada", "100%") == ["Straße 100%"]
    assert titles(store, "ada", "1%") == []
    store.rename("ada", second.identity, "Ärger")
    assert titles(store, "ada", "ärger ÜBER") == ["Ärger"]
    store.rename("ada", second.identity, "")
    assert titles(store, "ada", "über") == ["über alles"]
    assert len(store.listed("ada", limit=2)) == 2


def test_an_answer_that_ends_later_brings_nothing_deleted_back() -> None:
    store = ConversationStore(Database(None))
    one = Conversation().ask("a")
    store.add("ada", one)
    store.rename("ada", one.identity, "named elsewhere")
    store.update("ada", one.answered(ANSWER))
    assert titles(store, "ada") == ["named elsewhere"]
    store.delete("ada", one.identity)
    store.update("ada", one.answered(ANSWER))
    assert store.load_all("ada") == []

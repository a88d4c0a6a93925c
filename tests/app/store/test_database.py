"""The database: migrations, transactions, threads, and who may read the file."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.store import Database, StoreError, default_data_folder

STEPS = ["CREATE TABLE notes (text TEXT NOT NULL)", "ALTER TABLE notes ADD COLUMN number INTEGER NOT NULL DEFAULT 7"]


def test_steps_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "app.sqlite3"
    database = Database(path)
    database.migrate("notes", STEPS[:1])
    with database.transaction() as connection:
        connection.execute("INSERT INTO notes VALUES ('kept')")
    database.close()

    again = Database(path)
    again.migrate("notes", STEPS)
    again.migrate("notes", STEPS)
    again.migrate("other", ["CREATE TABLE other (text TEXT)"])
    assert again.read("SELECT text, number FROM notes") == [("kept", 7)]
    with pytest.raises(StoreError, match="holds notes of version 2, this program knows up to 1"):
        again.migrate("notes", STEPS[:1])
    again.close()


def test_the_file_is_private_and_writes_ahead(tmp_path: Path) -> None:
    path = tmp_path / "new" / "app.sqlite3"
    database = Database(path)
    database.migrate("notes", STEPS)
    assert database.read("PRAGMA journal_mode") == [("wal",)]
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    database.close()


@pytest.mark.parametrize("path", [None, "app.sqlite3"])
def test_a_transaction_is_whole_and_threads_take_turns(tmp_path: Path, path: str | None) -> None:
    database = Database(None if path is None else tmp_path / path)
    database.migrate("notes", STEPS)

    def write_two(number: int) -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO notes VALUES ('a', ?)", (number,))
            connection.execute("INSERT INTO notes VALUES (?, ?)", (None if number % 2 else "b", number))

    with ThreadPoolExecutor(8) as threads:
        failures = [one.exception() for one in [threads.submit(write_two, number) for number in range(20)]]
    assert [isinstance(failure, sqlite3.IntegrityError) for failure in failures] == [False, True] * 10
    assert database.read("SELECT count(*), sum(number) FROM notes") == [(20, 2 * sum(range(0, 20, 2)))]
    database.close()


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "app.sqlite3"
    path.write_text("not a database at all " * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        Database(path)
    assert path.read_text().startswith("not a database")


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_folder() == tmp_path / "persimmon-workbench"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_data_folder() == Path.home() / ".local" / "share" / "persimmon-workbench"

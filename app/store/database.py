"""One SQLite file for all features, safe to use from every thread.

database = Database(folder / "app.sqlite3")
database.migrate("votes", ["CREATE TABLE votes (id TEXT PRIMARY KEY, owner TEXT NOT NULL, ballot TEXT NOT NULL)"])
with database.transaction() as connection:
    connection.execute("INSERT INTO votes VALUES (?, ?, ?)", (identity, owner, ballot))
database.read("SELECT ballot FROM votes WHERE owner = ?", owner)
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = str | int | float | bytes | None

SECONDS_TO_WAIT_FOR_ANOTHER_PROCESS = 5.0
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600  # nobody else on the machine reads what people wrote


class StoreError(Exception):
    """The database cannot be used; the text is one sentence a user can act on."""


class Database:
    """An open database.

    There is one connection, used by one thread at a time: what pages read and write takes milliseconds.

    Args:
        path: the file, made where it is not there yet, with its folder; `None` keeps everything in memory and loses it
            at the end.

    Raises:
        StoreError: the file cannot be made or read.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        try:
            if path is not None:
                path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE))  # SQLite's own would be readable by all
            self._connection = sqlite3.connect(
                path or ":memory:",
                timeout=SECONDS_TO_WAIT_FOR_ANOTHER_PROCESS,
                isolation_level=None,
                check_same_thread=False,
            )
            # With a write-ahead log readers do not wait for a writer, and a crash loses no finished transaction;
            # synchronous=NORMAL leaves to a power cut the last ones at most.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (feature TEXT PRIMARY KEY, version INTEGER NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the database {path} cannot be used ({error}): make its folder writable, move a damaged file away, "
                "or name another folder with --data-folder"
            ) from error

    def migrate(self, feature: str, steps: Sequence[str]) -> None:
        """Bring a feature's tables up to date: run those of `steps`, one SQL statement each, that were not run before.

        A step that has been released never changes; a change of tables is a further step.

        Raises:
            StoreError: the tables are of a later version of this program.
        """
        with self.transaction() as connection:
            row = connection.execute("SELECT version FROM schema_versions WHERE feature = ?", (feature,)).fetchone()
            version = 0 if row is None else int(row[0])
            if version > len(steps):
                raise StoreError(
                    f"the database holds {feature} of version {version}, this program knows up to {len(steps)}: "
                    "use the newer program, or name another folder with --data-folder"
                )
            for step in steps[version:]:
                connection.execute(step)
            connection.execute("INSERT OR REPLACE INTO schema_versions VALUES (?, ?)", (feature, len(steps)))

    def read(self, query: str, *values: Value) -> list[tuple[Value, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are all kept, or none if the block raises. Not to be held while waiting."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Write everything into the one file; the database is of no use afterwards."""
        with self._lock:
            self._connection.close()

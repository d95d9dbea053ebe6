"""An SQLite file, opened for reading only (``mode=ro``); it must exist."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.transforms.databases.base import QueryError, Row, rows_of
from engine.transforms.databases.statement import Statement

#: Result codes of a file that cannot be read now (https://www.sqlite.org/rescode.html).
_AWAY = {"SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_NOTADB", "SQLITE_PERM"}


class SqliteDatabase:
    """A file."""

    def __init__(self, path: Path, timeout: float) -> None:
        """``timeout``: seconds to wait while somebody writes."""
        self._path, self._timeout = path, timeout
        self.name = f"sqlite:{path.name}"

    def connect(self) -> SqliteConnection:
        """Open it."""
        try:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=self._timeout,
                check_same_thread=False,  # each query has a thread of the pool to itself
            )
        except sqlite3.Error as error:
            raise _error(error) from None
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
        except sqlite3.Error as error:
            connection.close()
            raise _error(error) from None
        return SqliteConnection(connection)


class SqliteConnection:
    """An open file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._interrupted = False
        # Asked every so many steps of a query: an interrupt that comes before its first step counts all the same.
        connection.set_progress_handler(lambda: self._interrupted, 10_000)

    def fetch(self, statement: Statement, values: Mapping[str, Any], limit: int) -> list[Row]:
        """Ask. SQLite finds the named parameters itself."""
        try:
            cursor = self._connection.execute(statement.text, dict(values))
            try:
                columns = [column[0] for column in cursor.description or ()]
                return rows_of(columns, cursor.fetchmany(limit + 1))
            finally:
                cursor.close()
        except (sqlite3.Error, OverflowError) as error:
            raise _error(error) from None

    def interrupt(self) -> None:
        """End the query that runs."""
        self._interrupted = True
        self._connection.interrupt()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _error(error: Exception) -> QueryError:
    # The extended code says more than its first two words, which are the code proper: SQLITE_IOERR_READ.
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name == "SQLITE_INTERRUPT":
        return QueryError("unanswered", "timeout")
    away = "_".join(name.split("_")[:2]) in _AWAY
    return QueryError("unavailable" if away else "failed", name)
